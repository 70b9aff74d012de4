//! Looks for what the process was started with.

pub(crate) fn run() -> String {
    let variables = std::env::vars().count();
    let arguments = std::env::args().count();
    let stdin = std::io::read_to_string(std::io::stdin()).map_or(0, |text| text.len());
    format!("{variables} variables, {arguments} arguments, {stdin} bytes of input")
}
