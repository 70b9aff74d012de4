//! The binary itself. That this test is here makes plain `cargo test` build the binary, which the suites below `tests/`
//! then run: cargo builds a package's binaries for the package's own integration tests only.

use std::process::Command;

#[test]
fn it_says_its_version_on_standard_output() {
    let output = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("--version")
        .output()
        .expect("it can be started");
    let said = String::from_utf8(output.stdout).expect("the version is text");
    assert!(output.status.success());
    assert_eq!(said.trim_end(), concat!("sluicegate ", env!("CARGO_PKG_VERSION")));
}
