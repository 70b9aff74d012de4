//! A line-by-line connection to a mail server, with TLS from its start or after STARTTLS.

use sluicegate_sdk::net::{NetError, TcpStream};

/// The longest line that is read, bytes: more than any server sends outside a literal.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of one read.
const READ_BYTES_MAX: u32 = 64 * 1024;

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is protected.
    pub protection: Protection,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// TLS from the first byte.
    Tls,
    /// TLS after STARTTLS; without it nothing is said.
    StartTls,
    /// None: for a server on the same machine.
    Clear,
}

impl Server {
    /// Reads `tls://host:port` or `tcp://host:port`; `tcp` means STARTTLS unless `is_clear`.
    ///
    /// # Errors
    /// Words for the operator.
    pub fn parse(key: &str, text: &str, is_clear: bool) -> Result<Self, String> {
        let wrong = || format!("{key} is {text:?}: it must be tls://host:port or tcp://host:port");
        let (scheme, authority) = text.trim().split_once("://").ok_or_else(wrong)?;
        let protection = match scheme {
            "tls" => Protection::Tls,
            "tcp" if is_clear => Protection::Clear,
            "tcp" => Protection::StartTls,
            _ => return Err(wrong()),
        };
        let (host, port) = authority.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().map_err(|_| wrong())?,
            protection,
        })
    }
}

/// Why a conversation with a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The channel is being shut down.
    Shutdown,
    /// The connection failed, or the server said what it may not say.
    Broken(String),
    /// The server refuses who we are.
    Refused(String),
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        match error {
            NetError::ShuttingDown => Self::Shutdown,
            NetError::Denied(why) | NetError::Failed(why) => Self::Broken(why),
            NetError::Timeout => Self::Broken("the server takes nothing".to_owned()),
            NetError::Closed => Self::Broken("the server closed the connection".to_owned()),
        }
    }
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn open(server: &Server) -> Result<Self, Failure> {
        let stream = TcpStream::connect(&server.host, server.port, server.protection == Protection::Tls)?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }

    /// Turns the connection into TLS.
    ///
    /// # Errors
    /// See [`Failure`]; also where the server sent something before that would be taken as protected.
    pub fn start_tls(&mut self) -> Result<(), Failure> {
        if !self.read.is_empty() {
            return Err(Failure::Broken(
                "the server sent bytes before TLS that it may not send".to_owned(),
            ));
        }
        Ok(self.stream.start_tls()?)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write(bytes)?)
    }

    /// Writes a line in which `{{name}}` is a secret.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn write_secret(&mut self, line: &str) -> Result<(), Failure> {
        Ok(self.stream.write_text(line)?)
    }

    /// Returns the next line without its end; none where none came in time.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn line(&mut self, timeout_ms: u64) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.read.drain(..=end).collect();
                while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                    line.pop();
                }
                return Ok(Some(line));
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(Failure::Broken("the server sent a line without an end".to_owned()));
            }
            if !self.fill(timeout_ms)? {
                return Ok(None);
            }
        }
    }

    /// Returns the next line; the server must send one in time.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn must_line(&mut self, timeout_ms: u64) -> Result<Vec<u8>, Failure> {
        let line = self.line(timeout_ms)?;
        line.ok_or_else(|| Failure::Broken("the server does not answer".to_owned()))
    }

    /// Returns so many bytes.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn exactly(&mut self, count: usize, timeout_ms: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::with_capacity(count);
        loop {
            let wanted = count - bytes.len();
            bytes.extend(self.read.drain(..wanted.min(self.read.len())));
            if bytes.len() == count {
                return Ok(bytes);
            }
            if !self.fill(timeout_ms)? {
                return Err(Failure::Broken("the server does not go on".to_owned()));
            }
        }
    }

    fn fill(&mut self, timeout_ms: u64) -> Result<bool, Failure> {
        let bytes = self.stream.read(READ_BYTES_MAX, timeout_ms)?;
        let has_come = bytes.is_some();
        self.read.extend(bytes.unwrap_or_default());
        Ok(has_come)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_tls_must_be_asked_for() {
        let parse = |text, is_clear| Server::parse("imap", text, is_clear).map(|server| server.protection);
        assert_eq!(parse("tls://imap.x.example:993", true), Ok(Protection::Tls));
        assert_eq!(parse("tcp://imap.x.example:143", false), Ok(Protection::StartTls));
        assert_eq!(parse("tcp://127.0.0.1:143", true), Ok(Protection::Clear));
        for wrong in ["imap.x.example:993", "imaps://x:1", "tls://x", "tls://x:y"] {
            assert!(parse(wrong, false).is_err(), "{wrong}");
        }
    }
}
