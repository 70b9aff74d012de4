//! Makes as many lists of headers for `wasi:http` as a guest may hold, each as long as it may be.

use wasip2::http::types::Fields;

pub(crate) fn run() -> String {
    let value = vec![b'x'; 4000];
    let (mut held, mut bytes) = (Vec::new(), 0);
    // The table of handles ends this before the guest does.
    for _ in 0..1900 {
        let fields = Fields::new();
        while fields.append("x", &value).is_ok() {
            bytes += value.len();
        }
        held.push(fields);
    }
    format!("{} lists {bytes} bytes", held.len())
}
