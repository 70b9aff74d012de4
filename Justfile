# The daily commands. `just ci` is what CI runs.

# Start the gateway and chat right here.
run *ARGS:
    cargo run -- {{ARGS}}

# Everything that `cargo test` proves.
test *ARGS:
    cargo test {{ARGS}}

# The guests' own tests, natively.
test-guests:
    cd components && cargo test --workspace --target-dir ../target/guests-native

# The kill loop, with N kills.
torture N='1000':
    SLUICEGATE_KILLS={{N}} cargo test --release -p suites --test crash -- --nocapture kill_loop

# Files of random shape against the sandbox for SECONDS, and the policy of URLs against other parsers, from SEED on.
fuzz SECONDS='60' SEED='1':
    cargo build
    SLUICEGATE_FUZZ_SECONDS={{SECONDS}} SLUICEGATE_SEED={{SEED}} cargo test -p suites --test adversarial -- --nocapture shapes
    PROPTEST_CASES=20000 PROPTEST_RNG_SEED={{SEED}} cargo test -p sluicegate --lib -- policy

lint:
    cargo clippy --workspace --all-targets -- -D warnings
    cd components && cargo clippy --workspace --all-targets --target-dir ../target/guests-native -- -D warnings

# Licences, sources, banned crates and advisories of everything that is linked in.
deny:
    .ci/deny

fmt:
    cargo fmt --all
    cd components && cargo fmt --all
    rustfmt --edition 2024 components/*/conformance/mod.rs
    cd tests/programs && cargo fmt --all
    cd tests/fuzz && cargo fmt --all

doc:
    cargo doc --no-deps -p sluicegate --open

# Print the figures; each with its floor, measured in the same run.
bench *NAMES='all':
    cargo build --release -p sluicegate -p bench
    cargo run --release -p bench -- {{NAMES}}

# A million messages in 50,000 lanes, drained to the last: memory at the beginning and at the end.
soak:
    cargo build --release -p sluicegate -p bench
    cargo run --release -p bench -- soak

# The third-party peers that the channels are tested against.
peers:
    for install in components/*/conformance/install.sh tests/harness/install.sh; do "$install" target/peers; done

ci:
    .ci/run
