//! Asks for a secret that it was not granted to see.

use sluicegate_sdk::secrets;

pub(crate) fn run(name: &str) -> String {
    let revealed = secrets::reveal(name);
    let of_others = ["admin-token", "../admin-token", "OPENAI_API_KEY", "PATH"].map(secrets::reveal);
    format!(
        "{} revealed {revealed:?} others {}",
        secrets::available(name),
        of_others.iter().filter(|it| it.is_ok()).count()
    )
}
