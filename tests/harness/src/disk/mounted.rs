//! The file system as the kernel asks for it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::tree::{Change, Content, Tree, index};
use super::wire::{Answer, Ask, Attributes, REQUEST_BYTES_MAX, Request, framed};
use super::{Fault, Shared, lock};

/// What the disk says of its size, in blocks of [`BLOCK_BYTES`]: 16 GiB.
const BLOCKS: u64 = 1 << 22;
const BLOCK_BYTES: u32 = 4096;
/// What is left of it where there is little room: 1 MiB.
const BLOCKS_SCARCE: u64 = 256;

/// Answers the kernel until the disk is unmounted.
pub(super) fn serve(mut device: File, shared: &Mutex<Shared>) {
    let mut buffer = vec![0; REQUEST_BYTES_MAX];
    // It fails once the disk is unmounted.
    while let Ok(length) = device.read(&mut buffer) {
        let Some(Request { unique, node, ask }) = Request::parse(&buffer[..length]) else {
            continue;
        };
        if matches!(ask, Ask::Notice) {
            continue;
        }
        let answer = lock(shared).answer(node, ask);
        // Who asked may have been killed meanwhile.
        let _ = device.write_all(&framed(unique, answer));
    }
}

impl Shared {
    fn answer(&mut self, node: u64, ask: Ask) -> Result<Answer, Errno> {
        match ask {
            Ask::Init => Ok(Answer::init()),
            Ask::Lookup { name } => {
                let found = self.tree.child(node, &name).ok_or(Errno::NOENT)?;
                attributes(&self.tree, found).map(Answer::entry)
            }
            Ask::Attributes => attributes(&self.tree, node).map(Answer::about),
            Ask::Resize { size } => {
                if let Some(size) = size {
                    self.resize(node, size)?;
                }
                attributes(&self.tree, node).map(Answer::about)
            }
            Ask::MakeFolder { name, mode } => self.make(node, &name, true, mode).map(Answer::entry),
            Ask::MakeFile { name, mode } => {
                let made = self.make(node, &name, false, mode)?;
                Ok(Answer::entry(made).opened())
            }
            Ask::Remove { name } => self.remove(node, &name),
            Ask::Rename { name, to, to_name } => {
                self.changes_allowed()?;
                self.change(Change::Rename {
                    from: (node, name),
                    to: (to, to_name),
                });
                Ok(Answer::default())
            }
            Ask::Open => Ok(Answer::default().opened()),
            Ask::Read { offset, size } => {
                let bytes = self.tree.file(node).ok_or(Errno::ISDIR)?;
                let start = index(offset).min(bytes.len());
                let end = start.saturating_add(index(size.into())).min(bytes.len());
                Ok(Answer::bytes(&bytes[start..end]))
            }
            Ask::List { offset, size } => self.list(node, offset, size),
            Ask::Write {
                offset,
                bytes,
                from_cache,
            } => self.write(node, offset, &bytes, from_cache),
            Ask::Sync => self.sync(node),
            Ask::Space => {
                let free = match self.fault {
                    Fault::Full => 0,
                    Fault::Scarce => BLOCKS_SCARCE,
                    _ => BLOCKS,
                };
                Ok(Answer::space(BLOCKS, free, BLOCK_BYTES))
            }
            Ask::Allow | Ask::Notice => Ok(Answer::default()),
            Ask::Unknown => Err(Errno::NOSYS),
        }
    }

    /// Makes a file or folder with a name.
    fn make(&mut self, folder: u64, name: &OsStr, is_folder: bool, mode: u32) -> Result<Attributes, Errno> {
        self.changes_allowed()?;
        if self.fault == Fault::NoFiles {
            return Err(Errno::NOSPC);
        }
        let node = self.tree.free_number();
        self.change(Change::Make { node, is_folder, mode });
        self.change(Change::Name {
            folder,
            name: name.to_owned(),
            node,
        });
        attributes(&self.tree, node)
    }

    fn remove(&mut self, folder: u64, name: &OsStr) -> Result<Answer, Errno> {
        self.changes_allowed()?;
        let node = self.tree.child(folder, name).ok_or(Errno::NOENT)?;
        if self.tree.folder(node).is_some_and(|names| !names.is_empty()) {
            return Err(Errno::NOTEMPTY);
        }
        self.change(Change::Unname {
            folder,
            name: name.to_owned(),
        });
        Ok(Answer::default())
    }

    fn resize(&mut self, node: u64, size: u64) -> Result<(), Errno> {
        let length = self.tree.file(node).ok_or(Errno::ISDIR)?.len();
        // A file may be cut on a full disk.
        if size > length as u64 {
            self.writes_allowed()?;
        } else {
            self.changes_allowed()?;
        }
        self.change(Change::Resize { node, size });
        Ok(())
    }

    fn write(&mut self, node: u64, offset: u64, bytes: &[u8], from_cache: bool) -> Result<Answer, Errno> {
        // Pages written back from mapped memory are spared: other file systems make room for them at the page fault.
        if !from_cache {
            self.writes_allowed()?;
        }
        self.change(Change::Write {
            node,
            offset,
            bytes: Arc::from(bytes),
        });
        Ok(Answer::written(bytes.len()))
    }

    fn sync(&mut self, node: u64) -> Result<Answer, Errno> {
        if self.fault == Fault::SyncsFail {
            return Err(Errno::IO);
        }
        self.change(Change::Sync { node });
        Ok(Answer::default())
    }

    fn list(&self, folder: u64, offset: u64, bytes_max: u32) -> Result<Answer, Errno> {
        let names = self.tree.folder(folder).ok_or(Errno::NOTDIR)?;
        let mut answer = Answer::default();
        for (place, (name, node)) in names.iter().enumerate().skip(index(offset)) {
            // The place given to the kernel is that of the next entry.
            if !answer.list(place as u64 + 1, name, attributes(&self.tree, *node)?, bytes_max) {
                break;
            }
        }
        Ok(answer)
    }

    fn changes_allowed(&self) -> Result<(), Errno> {
        match self.fault {
            Fault::ReadOnly => Err(Errno::ROFS),
            _ => Ok(()),
        }
    }

    fn writes_allowed(&self) -> Result<(), Errno> {
        match self.fault {
            Fault::Full => Err(Errno::NOSPC),
            Fault::WritesFail => Err(Errno::IO),
            _ => self.changes_allowed(),
        }
    }
}

fn attributes(tree: &Tree, node: u64) -> Result<Attributes, Errno> {
    let found = tree.node(node).ok_or(Errno::NOENT)?;
    let (is_folder, size) = match &found.content {
        Content::File(bytes) => (false, bytes.len() as u64),
        Content::Folder(_) => (true, 0),
    };
    Ok(Attributes {
        node,
        size,
        is_folder,
        mode: found.mode,
    })
}
