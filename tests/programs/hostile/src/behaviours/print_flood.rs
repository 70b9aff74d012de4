//! Writes to standard output and standard error without end.

pub(crate) fn run() -> String {
    let long = "long ".repeat(1_000);
    loop {
        println!("flood");
        eprintln!("{long}");
    }
}
