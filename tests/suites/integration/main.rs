//! The whole path of a message through the real binary: a platform's raw bytes in, recorded calls of the platform out.
//!
//! Nothing here reaches into the gateway. What a test knows it has seen from outside: frames, requests, pages, output.

mod accounts;
mod agents;
mod backup;
mod changes;
mod channels;
mod chat;
mod delivery;
mod email;
mod folder;
mod imap;
mod irc;
mod operator;
mod pages;
mod pressure;
mod restart;
mod slips;
mod startup;
mod surface;
mod telegram;
mod telegram_webhook;
mod terminal;
mod unfinished;
mod webhook;
mod websocket;
