//! Claims that a hundred thousand parts of a delivery went out.

use sluicegate_sdk::progress;

pub(crate) fn run(key: &str) -> String {
    for index in 0..100_000 {
        progress::sent(key, index, "part");
    }
    "all parts".to_owned()
}
