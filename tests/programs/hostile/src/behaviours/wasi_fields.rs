//! Makes as many lists of headers for `wasi:http` as a guest may hold, each as many KiB long as the argument says.

use wasip2::http::types::Fields;

pub(crate) fn run(argument: &str) -> String {
    let value = vec![b'x'; 1024];
    let mut held = Vec::new();
    // The table of handles would end this a little later.
    for _ in 0..1900 {
        let fields = Fields::new();
        for _ in 0..crate::results::number(argument) {
            if fields.append("x", &value).is_err() {
                return "refused".to_owned();
            }
        }
        held.push(fields);
    }
    format!("{} lists", held.len())
}
