//! The attacks by name. Each returns what the host made of it, in words.

mod allocate;
mod blob_flood;
mod clients_flood;
mod clocks;
mod confirm;
mod deaf;
mod environment;
mod files;
mod folder;
mod form_of_blobs;
mod hammer;
mod http;
mod idle;
mod large_body;
mod late;
mod log_controls;
mod log_flood;
mod log_line;
mod panic;
mod parts_flood;
mod post_and_panic;
mod print_flood;
mod publish;
mod publish_flood;
mod publish_refused;
mod random_huge;
mod reachable_flood;
mod reconnect;
mod recurse;
mod relay_ask;
mod relay_serve;
mod secrets;
mod sent;
mod sleep;
mod sockets;
mod spin;
mod state_huge;
mod state_quota;
mod streams;
mod tiny_calls;
mod wasi_fields;
mod wasi_unread;
mod wasi_uploads;
mod wasi_words;
mod websockets;

/// Runs an attack; none where no one is called so.
pub(crate) fn run(name: &str, argument: &str) -> Option<String> {
    Some(match name {
        "allocate" => allocate::run(),
        "blob_flood" => blob_flood::run(),
        "clients_flood" => clients_flood::run(),
        "clocks" => clocks::run(argument),
        "confirm" => confirm::run(argument),
        "deaf" => deaf::run(argument),
        "environment" => environment::run(),
        "files" => files::run(),
        "folder" => folder::run(argument),
        "form_of_blobs" => form_of_blobs::run(argument),
        "hammer" => hammer::run(argument),
        "http" => http::run(argument),
        "idle" => idle::run(argument),
        "large_body" => large_body::run(argument),
        "late" => late::run(argument),
        "log_controls" => log_controls::run(),
        "log_flood" => log_flood::run(),
        "log_line" => log_line::run(argument),
        "panic" => panic::run(argument),
        "parts_flood" => parts_flood::run(argument),
        "post_and_panic" => post_and_panic::run(argument),
        "print_flood" => print_flood::run(),
        "publish" => publish::run(argument),
        "publish_flood" => publish_flood::run(),
        "publish_refused" => publish_refused::run(),
        "random_huge" => random_huge::run(),
        "reachable_flood" => reachable_flood::run(),
        "reconnect" => reconnect::run(argument),
        "recurse" => recurse::run(),
        "relay_ask" => relay_ask::run(argument),
        "relay_serve" => relay_serve::run(argument),
        "secrets" => secrets::run(argument),
        "sent" => sent::run(argument),
        "sleep" => sleep::run(),
        "sockets" => sockets::run(argument),
        "spin" => spin::run(),
        "state_huge" => state_huge::run(),
        "state_quota" => state_quota::run(argument),
        "streams" => streams::run(argument),
        "tiny_calls" => tiny_calls::run(),
        "wasi_fields" => wasi_fields::run(argument),
        "wasi_unread" => wasi_unread::run(argument),
        "wasi_uploads" => wasi_uploads::run(argument),
        "wasi_words" => wasi_words::run(),
        "websockets" => websockets::run(argument),
        _ => return None,
    })
}
