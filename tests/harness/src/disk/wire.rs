//! What the kernel and a FUSE file system say to each other: the part of `linux/fuse.h` (7.31) that a small file system
//! needs.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use rustix::io::Errno;

/// The longest write that the kernel is told to send, bytes.
const WRITE_BYTES_MAX: u32 = 128 * 1024;
/// Bytes that one request may have, its headers included.
pub(super) const REQUEST_BYTES_MAX: usize = WRITE_BYTES_MAX as usize + 4096;
/// Bytes before each request's own part.
const HEADER_BYTES: usize = 40;
/// How long the kernel may trust what it knows, seconds: nobody but the kernel changes anything.
const TRUST_S: u64 = 3600;
/// `FATTR_SIZE`: the size is to be set.
const SETS_SIZE: u32 = 1 << 3;
/// `FUSE_WRITE_CACHE`: written back from mapped memory.
const FROM_CACHE: u32 = 1;

/// What the kernel asks.
#[derive(Debug)]
pub(super) enum Ask {
    Init,
    Lookup {
        name: OsString,
    },
    Attributes,
    Resize {
        size: Option<u64>,
    },
    MakeFolder {
        name: OsString,
        mode: u32,
    },
    MakeFile {
        name: OsString,
        mode: u32,
    },
    Remove {
        name: OsString,
    },
    Rename {
        name: OsString,
        to: u64,
        to_name: OsString,
    },
    Open,
    Read {
        offset: u64,
        size: u32,
    },
    List {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        bytes: Vec<u8>,
        from_cache: bool,
    },
    Sync,
    Space,
    /// Needs no more than a yes.
    Allow,
    /// Needs no answer at all.
    Notice,
    /// Is not there.
    Unknown,
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) ask: Ask,
}

/// Reads fields one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Reads a text up to its zero byte.
    fn name(&mut self) -> Option<OsString> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let name = OsStr::from_bytes(&self.0[..end]).to_owned();
        self.0 = &self.0[end + 1..];
        Some(name)
    }
}

impl Request {
    /// Reads a request as the kernel writes it; none where it is cut short.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut head = Fields(bytes.get(..HEADER_BYTES)?);
        let (_length, operation) = (head.u32()?, head.u32()?);
        let (unique, node) = (head.u64()?, head.u64()?);
        let ask = ask(operation, Fields(&bytes[HEADER_BYTES..]))?;
        Some(Self { unique, node, ask })
    }
}

fn ask(operation: u32, mut body: Fields<'_>) -> Option<Ask> {
    Some(match operation {
        1 => Ask::Lookup { name: body.name()? },
        2 | 36 | 42 => Ask::Notice,
        3 => Ask::Attributes,
        4 => {
            let (valid, _padding, _handle, size) = (body.u32()?, body.u32()?, body.u64()?, body.u64()?);
            Ask::Resize {
                size: (valid & SETS_SIZE != 0).then_some(size),
            }
        }
        9 => {
            let (mode, umask) = (body.u32()?, body.u32()?);
            Ask::MakeFolder {
                name: body.name()?,
                mode: mode & !umask,
            }
        }
        10 | 11 => Ask::Remove { name: body.name()? },
        12 | 45 => {
            let to = body.u64()?;
            if operation == 45 {
                body.u64()?;
            }
            Ask::Rename {
                name: body.name()?,
                to,
                to_name: body.name()?,
            }
        }
        14 | 27 => Ask::Open,
        15 | 28 => {
            let (_handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
            if operation == 15 {
                Ask::Read { offset, size }
            } else {
                Ask::List { offset, size }
            }
        }
        16 => {
            let (_handle, offset, size, flags) = (body.u64()?, body.u64()?, body.u32()?, body.u32()?);
            let (_owner, _flags, _padding) = (body.u64()?, body.u32()?, body.u32()?);
            Ask::Write {
                offset,
                bytes: body.0.get(..super::tree::index(size.into()))?.to_vec(),
                from_cache: flags & FROM_CACHE != 0,
            }
        }
        17 => Ask::Space,
        18 | 25 | 29 | 34 | 38 => Ask::Allow,
        20 | 30 => Ask::Sync,
        26 => Ask::Init,
        35 => {
            let (_flags, mode, umask, _open) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
            Ask::MakeFile {
                name: body.name()?,
                mode: mode & !umask,
            }
        }
        _ => Ask::Unknown,
    })
}

/// What the kernel is told of a file or folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) node: u64,
    pub(super) size: u64,
    pub(super) is_folder: bool,
    pub(super) mode: u32,
}

/// Writes the fields of an answer one after the other.
#[derive(Debug, Default)]
pub(super) struct Answer(Vec<u8>);

impl Answer {
    /// What the kernel may do with this file system.
    pub(super) fn init() -> Self {
        let big_writes = 1 << 5;
        let mut answer = Self::default().words(&[7, 31, WRITE_BYTES_MAX, big_writes]);
        // Two halves: requests in the background at most, and from how many on it counts as congested.
        answer = answer.words(&[u32::from_ne_bytes([16, 0, 12, 0]), WRITE_BYTES_MAX, 1]);
        answer.words(&[0; 9])
    }

    /// A name and what it stands for.
    pub(super) fn entry(of: Attributes) -> Self {
        Self::default()
            .longs(&[of.node, 0, TRUST_S, TRUST_S])
            .words(&[0, 0])
            .attributes(of)
    }

    /// What something is.
    pub(super) fn about(of: Attributes) -> Self {
        Self::default().longs(&[TRUST_S]).words(&[0, 0]).attributes(of)
    }

    /// That it is open.
    #[must_use]
    pub(super) fn opened(self) -> Self {
        self.longs(&[0]).words(&[0, 0])
    }

    /// That so many bytes were written.
    pub(super) fn written(bytes: usize) -> Self {
        Self::default().words(&[u32::try_from(bytes).unwrap_or(u32::MAX), 0])
    }

    /// Bytes of a file.
    pub(super) fn bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// How much room there is, in blocks.
    pub(super) fn space(blocks: u64, free: u64, block_bytes: u32) -> Self {
        let answer = Self::default().longs(&[blocks, free, free, blocks, blocks]);
        answer.words(&[block_bytes, 255, block_bytes, 0]).words(&[0; 6])
    }

    /// Adds a name to a folder's list, unless that makes it longer than `bytes_max`. Returns whether it did.
    pub(super) fn list(&mut self, place: u64, name: &OsStr, of: Attributes, bytes_max: u32) -> bool {
        let kind = if of.is_folder { 4 } else { 8 };
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        let mut entry = Self::default().longs(&[of.node, place]).words(&[length, kind]).0;
        entry.extend_from_slice(name.as_bytes());
        entry.resize(entry.len().next_multiple_of(8), 0);
        let fits = self.0.len() + entry.len() <= super::tree::index(bytes_max.into());
        if fits {
            self.0.append(&mut entry);
        }
        fits
    }

    fn attributes(self, of: Attributes) -> Self {
        let kind = if of.is_folder { 0o040_000 } else { 0o100_000 };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        self.longs(&[of.node, of.size, of.size.div_ceil(512), 0, 0, 0]).words(&[
            0,
            0,
            0,
            kind | of.mode & 0o7777,
            1,
            uid,
            gid,
            0,
            4096,
            0,
        ])
    }

    fn longs(mut self, fields: &[u64]) -> Self {
        fields.iter().for_each(|field| self.0.extend(field.to_ne_bytes()));
        self
    }

    fn words(mut self, fields: &[u32]) -> Self {
        fields.iter().for_each(|field| self.0.extend(field.to_ne_bytes()));
        self
    }
}

/// Returns an answer as it is written to the kernel.
pub(super) fn framed(unique: u64, answer: Result<Answer, Errno>) -> Vec<u8> {
    let (error, body) = match answer {
        Ok(answer) => (0, answer.0),
        Err(error) => (-error.raw_os_error(), Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(16 + body.len());
    frame.extend(length.to_ne_bytes());
    frame.extend(error.to_ne_bytes());
    frame.extend(unique.to_ne_bytes());
    frame.extend(body);
    frame
}
