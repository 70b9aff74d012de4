//! The death of the process (SIGKILL of the real binary) at each point of a message's path, triggered by what a platform
//! or a model sees from outside: the product has no switch for tests in it.
//!
//! What must hold after each: nothing that was accepted is lost; a copy only where bytes had left and no answer had come;
//! each copy has the key of its original; the order of a conversation is kept.
//!
//! | died | test |
//! | --- | --- |
//! | before and after the inbox commit | [`inbound`] |
//! | during a turn, after the model's answer, after the turn's commit, during the drain | [`turn`] |
//! | between the claim and the first byte | [`unsent`] |
//! | after the sending mark, after the platform took it, after its answer, before the client's ack | [`outbound`] |
//! | between two parts | [`parts`] |
//! | in and after turns, several times in a row | [`restarts`] |
//! | at each point, on each kind of platform | [`table`] |
//! | anywhere, many times, under load | [`kill_loop`] |
//! | with the power of the disk, at any moment | [`power`] |
//!
//! And what becomes of it when the disk fails, or the clock is set, and the process need not die: [`disk`], [`clock`].

mod clock;
mod disk;
mod front;
mod inbound;
mod kill_loop;
mod outbound;
mod parts;
mod power;
mod restarts;
mod table;
mod turn;
mod unsent;
