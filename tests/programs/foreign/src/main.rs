//! An ordinary program that asks a server for a page, over the standard library's sockets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

fn main() -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("example.org", 80))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    println!("{page}");
    Ok(())
}
