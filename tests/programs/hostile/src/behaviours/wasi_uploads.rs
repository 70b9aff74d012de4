//! Begins as many requests of `wasi:http` as the argument says (`COUNT MIB`), to a server that nobody granted, and writes
//! so much into the body of each without ever ending one.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, Method, OutgoingRequest, Scheme};
use wasip2::io::streams::OutputStream;

const PIECE_BYTES_MAX: usize = 64 * 1024;

pub(crate) fn run(argument: &str) -> String {
    let (count, mib_each) = argument.split_once(' ').unwrap_or((argument, "1"));
    let bytes_each = crate::results::number(mib_each) * 1024 * 1024;
    let piece = vec![b'x'; PIECE_BYTES_MAX];
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..crate::results::number(count) {
        let request = OutgoingRequest::new(Fields::new());
        let said = [
            request.set_method(&Method::Post),
            request.set_scheme(Some(&Scheme::Http)),
            request.set_authority(Some("192.0.2.1")),
            request.set_path_with_query(Some("/")),
        ];
        let (Ok(body), true) = (request.body(), said.iter().all(Result::is_ok)) else {
            break;
        };
        let (Ok(stream), Ok(answer)) = (body.write(), outgoing_handler::handle(request, None)) else {
            break;
        };
        if fill(&stream, &piece, bytes_each) {
            held.push((stream, body, answer));
        } else {
            refused += 1;
        }
    }
    format!("{} held {refused} refused", held.len())
}

/// Writes until there is enough; false where nothing more is taken before.
fn fill(stream: &OutputStream, piece: &[u8], enough: usize) -> bool {
    let mut taken = 0;
    while taken < enough {
        let Ok(room) = stream.check_write() else {
            return false;
        };
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let length = piece.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if stream.write(&piece[..length]).is_err() {
            return false;
        }
        taken += length;
    }
    true
}
