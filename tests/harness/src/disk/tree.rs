//! Files and folders in memory, and the changes that can be made to them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

/// The number of the root folder, as FUSE wants it.
pub(super) const ROOT: u64 = 1;

/// A change, as it was asked for.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A file or folder exists, without a name.
    Make { node: u64, is_folder: bool, mode: u32 },
    /// A name was put into a folder, in place of any other with this name.
    Name { folder: u64, name: OsString, node: u64 },
    /// A name was taken out of a folder.
    Unname { folder: u64, name: OsString },
    /// A name went from one folder to another, or got another form.
    Rename { from: (u64, OsString), to: (u64, OsString) },
    /// Bytes were written.
    Write { node: u64, offset: u64, bytes: Arc<[u8]> },
    /// A file was cut or grown with zeros.
    Resize { node: u64, size: u64 },
    /// A file or folder was synced.
    Sync { node: u64 },
}

impl Change {
    /// Returns whose sync makes this change durable; none for what needs none.
    pub(super) fn synced_by(&self) -> Option<u64> {
        match self {
            Self::Make { .. } | Self::Sync { .. } => None,
            Self::Name { folder, .. } | Self::Unname { folder, .. } => Some(*folder),
            Self::Rename { to: (folder, _), .. } => Some(*folder),
            Self::Write { node, .. } | Self::Resize { node, .. } => Some(*node),
        }
    }
}

/// A file or a folder.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) content: Content,
}

/// What is in it.
#[derive(Debug, Clone)]
pub(super) enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, u64>),
}

/// A whole disk. What has no name any more stays: a process may hold it open.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: HashMap<u64, Node>,
}

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Self { nodes: HashMap::new() };
        tree.apply(&Change::Make {
            node: ROOT,
            is_folder: true,
            mode: 0o755,
        });
        tree
    }
}

impl Tree {
    pub(super) fn node(&self, node: u64) -> Option<&Node> {
        self.nodes.get(&node)
    }

    /// Returns a number that no file or folder has.
    pub(super) fn free_number(&self) -> u64 {
        // Nothing is ever taken out, so the numbers are without gaps from the root's on.
        ROOT + self.nodes.len() as u64
    }

    /// Returns the content of a folder; nothing where it is none.
    pub(super) fn folder(&self, node: u64) -> Option<&BTreeMap<OsString, u64>> {
        match &self.nodes.get(&node)?.content {
            Content::Folder(names) => Some(names),
            Content::File(_) => None,
        }
    }

    /// Returns the bytes of a file; nothing where it is none.
    pub(super) fn file(&self, node: u64) -> Option<&[u8]> {
        match &self.nodes.get(&node)?.content {
            Content::File(bytes) => Some(bytes),
            Content::Folder(_) => None,
        }
    }

    /// Looks a name up.
    pub(super) fn child(&self, folder: u64, name: &OsStr) -> Option<u64> {
        self.folder(folder)?.get(name).copied()
    }

    /// Makes a change.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Make { node, is_folder, mode } => {
                let content = if *is_folder {
                    Content::Folder(BTreeMap::new())
                } else {
                    Content::File(Vec::new())
                };
                self.nodes.insert(*node, Node { mode: *mode, content });
            }
            Change::Name { folder, name, node } => {
                self.names(*folder).insert(name.clone(), *node);
            }
            Change::Unname { folder, name } => {
                self.names(*folder).remove(name);
            }
            Change::Rename { from, to } => {
                if let Some(node) = self.names(from.0).remove(&from.1) {
                    self.names(to.0).insert(to.1.clone(), node);
                }
            }
            Change::Write { node, offset, bytes } => self.write(*node, *offset, bytes),
            Change::Resize { node, size } => self.bytes(*node).resize(index(*size), 0),
            Change::Sync { .. } => {}
        }
    }

    /// Writes bytes into a file, which grows as far as needed.
    pub(super) fn write(&mut self, node: u64, offset: u64, bytes: &[u8]) {
        let (start, file) = (index(offset), self.bytes(node));
        let end = start + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(bytes);
    }

    /// Writes everything that has a name below a real folder.
    pub(super) fn copy_to(&self, node: u64, path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        let Some(found) = self.nodes.get(&node) else { return };
        match &found.content {
            Content::File(bytes) => std::fs::write(path, bytes).expect("a temporary file can be written"),
            Content::Folder(names) => {
                std::fs::create_dir_all(path).expect("a temporary folder can be made");
                for (name, child) in names {
                    self.copy_to(*child, &path.join(name));
                }
            }
        }
        let mode = std::fs::Permissions::from_mode(found.mode & 0o777);
        std::fs::set_permissions(path, mode).expect("the mode of an own file can be set");
    }

    fn names(&mut self, node: u64) -> &mut BTreeMap<OsString, u64> {
        match self.nodes.get_mut(&node).map(|node| &mut node.content) {
            Some(Content::Folder(names)) => names,
            _ => panic!("{node} is no folder"),
        }
    }

    fn bytes(&mut self, node: u64) -> &mut Vec<u8> {
        match self.nodes.get_mut(&node).map(|node| &mut node.content) {
            Some(Content::File(bytes)) => bytes,
            _ => panic!("{node} is no file"),
        }
    }
}

/// Turns a position in a file of memory into one of memory.
pub(super) fn index(position: u64) -> usize {
    usize::try_from(position).expect("the test's files fit into memory")
}
