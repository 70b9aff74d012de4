//! Writes to standard output and standard error without end.

pub(crate) fn run() -> String {
    let long = "long ".repeat(100_000);
    loop {
        println!("flood");
        eprintln!("{long}");
    }
}
