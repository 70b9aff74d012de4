//! HTTP/1.1 over plain sockets, both ends, in as few lines as the suites need.
//!
//! Written out, and not taken from a library, because tests need what libraries keep from happening: a connection that
//! is closed in place of an answer, an answer that never comes, a body that stops in the middle.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::PATIENCE;

/// A request that a fake received.
#[derive(Clone)]
pub struct Request {
    /// Such as `POST`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Request {
    /// Without headers and body, which would drown everything else in a failure.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({} bytes)", self.method, self.path, self.body.len())
    }
}

impl Request {
    /// Returns the first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// What a fake does with a request.
pub enum Reply {
    /// Answers.
    Whole(Response),
    /// Answers 200 in chunks, each written at once. An unfinished one is cut off: the connection closes in the middle.
    Chunks {
        /// The `Content-Type`.
        media_type: &'static str,
        /// What is written.
        chunks: Vec<Vec<u8>>,
        /// Whether the answer is ended as it should be.
        finished: bool,
        /// Called when everything is written.
        written: Box<dyn FnOnce() + Send>,
    },
    /// Answers 200 in chunks, with a pause in the middle.
    Paused {
        /// The `Content-Type`.
        media_type: &'static str,
        /// What is written at once.
        before: Vec<Vec<u8>>,
        /// What is waited for then.
        pause: Pin<Box<dyn Future<Output = ()> + Send>>,
        /// What is written after it.
        after: Vec<Vec<u8>>,
    },
    /// Never answers; the connection stays until the peer closes it.
    Hang,
    /// Closes the connection.
    Close,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
}

impl Response {
    /// Makes an answer without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns the first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.as_str())
}

/// What answers a fake's requests.
pub type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// A server on a loopback port. Dropping it ends it and all of its connections.
#[derive(Debug)]
pub struct Server {
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves a listening socket.
    pub fn start(listener: TcpListener, handler: Handler) -> Self {
        Self {
            accepting: tokio::spawn(accept(listener, handler)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, handler: Handler) {
    // Dropped, and with it every connection, when the server is.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    // What is said to be written has left: some tests kill whoever reads it right then.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(converse(stream, Arc::clone(&handler)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers the requests of one connection until it ends, one way or the other.
async fn converse(stream: TcpStream, handler: Handler) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = read_request(&mut stream).await {
        let reply = tokio::select! {
            biased;
            reply = handler(request) => reply,
            // A peer that has gone waits for no answer.
            _ = stream.fill_buf() => return,
        };
        if !carry_out(&mut stream, reply).await.is_ok_and(|goes_on| goes_on) {
            return;
        }
    }
}

/// Returns whether the connection can be used again.
async fn carry_out(stream: &mut BufReader<TcpStream>, reply: Reply) -> std::io::Result<bool> {
    match reply {
        Reply::Whole(response) => {
            stream
                .write_all(&head(response.status, &response.headers, Some(response.body.len())))
                .await?;
            stream.write_all(&response.body).await?;
            stream.flush().await?;
            Ok(true)
        }
        Reply::Chunks {
            media_type,
            chunks,
            finished,
            written,
        } => {
            begin_chunks(stream, media_type).await?;
            write_chunks(stream, chunks).await?;
            if finished {
                stream.write_all(b"0\r\n\r\n").await?;
                stream.flush().await?;
            }
            written();
            Ok(finished)
        }
        Reply::Paused {
            media_type,
            before,
            pause,
            after,
        } => {
            begin_chunks(stream, media_type).await?;
            write_chunks(stream, before).await?;
            tokio::select! {
                () = pause => {}
                // A peer that has gone waits for nothing.
                _ = stream.fill_buf() => return Ok(false),
            }
            write_chunks(stream, after).await?;
            stream.write_all(b"0\r\n\r\n").await?;
            stream.flush().await?;
            Ok(true)
        }
        Reply::Hang => {
            // Whatever comes, or the end of the connection: this one is over.
            let _ = stream.fill_buf().await;
            Ok(false)
        }
        Reply::Close => Ok(false),
    }
}

async fn begin_chunks(stream: &mut BufReader<TcpStream>, media_type: &str) -> std::io::Result<()> {
    let headers = [("content-type".to_owned(), media_type.to_owned())];
    stream.write_all(&head(200, &headers, None)).await?;
    stream.flush().await
}

async fn write_chunks(stream: &mut BufReader<TcpStream>, chunks: Vec<Vec<u8>>) -> std::io::Result<()> {
    for chunk in chunks {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        stream.write_all(&chunk).await?;
        stream.write_all(b"\r\n").await?;
        stream.flush().await?;
    }
    Ok(())
}

fn head(status: u16, headers: &[(String, String)], length: Option<usize>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} -\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    head.into_bytes()
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let Some((first, headers)) = read_head(stream).await? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut body = vec![
        0;
        find(&headers, "content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0)
    ];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        body,
    }))
}

/// The first line, and the headers with lower-case names.
type Head = (String, Vec<(String, String)>);

async fn read_head(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Head>> {
    let mut first = String::new();
    if stream.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some((first.trim_end().to_owned(), headers)))
}

/// Sends a request and returns the answer.
///
/// # Errors
/// Any I/O error, and an end of the connection before the whole answer: the server was killed.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Response> {
    let whole = async { receive(send(address, method, path, headers, body).await?).await };
    tokio::time::timeout(PATIENCE, whole)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("no answer in time")))
}

/// Passes a request on and returns its answer, both without what belongs to the connection.
///
/// # Errors
/// As [`request`].
pub async fn forward(upstream: SocketAddr, request: &Request) -> std::io::Result<Response> {
    let headers = request
        .headers
        .iter()
        .filter(|(name, _)| !["host", "connection", "content-length"].contains(&name.as_str()));
    let headers: Vec<(&str, &str)> = headers.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut answer = self::request(upstream, &request.method, &request.path, &headers, &request.body).await?;
    answer
        .headers
        .retain(|(name, _)| !["content-length", "transfer-encoding", "connection"].contains(&name.as_str()));
    Ok(answer)
}

/// Sends a request and returns the connection, on which the answer will come.
///
/// # Errors
/// Any I/O error of connecting. A server that answers before it has read everything is no error here.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).await?;
    // A refused body may be answered before it is read.
    let _ = stream.write_all(body).await;
    Ok(stream)
}

/// Receives the answer to a request that was sent.
///
/// # Errors
/// As [`request`].
pub async fn receive(stream: TcpStream) -> std::io::Result<Response> {
    let whole = tokio::time::timeout(PATIENCE, receive_at_leisure(BufReader::new(stream))).await;
    whole.unwrap_or_else(|_| Err(std::io::Error::other("no answer in time")))
}

async fn receive_at_leisure(mut stream: BufReader<TcpStream>) -> std::io::Result<Response> {
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (first, headers) = read_head(&mut stream).await?.ok_or_else(cut)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(cut)?;
    let body = match find(&headers, "content-length").map(str::parse) {
        Some(Ok(length)) => {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            body
        }
        _ => read_chunks(&mut stream).await?,
    };
    Ok(Response { status, headers, body })
}

async fn read_chunks(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        stream.read_line(&mut size).await?;
        let cut = |_| std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let size = usize::from_str_radix(size.trim(), 16).map_err(cut)?;
        let start = body.len();
        body.resize(start + size + 2, 0);
        stream.read_exact(&mut body[start..]).await?;
        body.truncate(start + size);
        if size == 0 {
            return Ok(body);
        }
    }
}
