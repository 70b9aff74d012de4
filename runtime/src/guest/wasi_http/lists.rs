//! What lists of headers take: of requests that a guest puts together, and of answers that it keeps.
//!
//! Each list is bounded, and so are the handles of an instance; but as many lists as it may hold, in as many instances as a
//! channel may have, are more than a small machine has. So what the lists of an instance take is a part of what the host
//! keeps for its channel. Lists turn into requests and go away unseen, in the library: what there is of them is measured,
//! each time that it may have grown by a good part.

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest};

use crate::guest::Share;
use crate::limit;

/// What a header takes besides its name and its value.
const HEADER_BYTES: usize = 64;
/// Up to so much, and by such a part of what there was, the lists of an instance may grow before they are measured again.
const GROWTH_PARTS: usize = 4;

/// What the lists of one instance may take.
#[derive(Debug)]
pub(in crate::guest) struct Lists {
    /// How much they may grow before they are measured.
    left: usize,
    kept: Option<OwnedSemaphorePermit>,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            left: limit::GUEST_HEADERS_FREE_BYTES,
            kept: None,
        }
    }
}

impl Lists {
    /// Notes that they grow by so many bytes. Returns whether the channel may have as much.
    pub(in crate::guest) fn grow(&mut self, bytes: usize, table: &ResourceTable, share: &Share) -> bool {
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return true;
        }
        let there = bytes + in_table(table);
        let room = (there / GROWTH_PARTS).max(limit::GUEST_HEADERS_FREE_BYTES);
        // What was taken before is a part of what is taken now.
        self.kept = None;
        self.kept = share.keep(there + room);
        self.left = if self.kept.is_some() { room } else { 0 };
        self.kept.is_some()
    }
}

/// Returns what a list takes.
pub(super) fn size(fields: &FieldMap) -> usize {
    fields
        .iter()
        .map(|(name, value)| header_size(name.as_str().len(), value.len()))
        .sum()
}

/// Returns what a header takes.
pub(super) fn header_size(name_bytes: usize, value_bytes: usize) -> usize {
    name_bytes + value_bytes + HEADER_BYTES
}

/// Returns what all lists of an instance take, wherever they went.
fn in_table(table: &ResourceTable) -> usize {
    let handles = (0u32..).take(limit::GUEST_HANDLES_MAX);
    handles.filter_map(|handle| fields_at(table, handle)).map(size).sum()
}

fn fields_at(table: &ResourceTable, handle: u32) -> Option<&FieldMap> {
    if let Ok(fields) = table.get(&Resource::<FieldMap>::new_borrow(handle)) {
        return Some(fields);
    }
    if let Ok(request) = table.get(&Resource::<HostOutgoingRequest>::new_borrow(handle)) {
        return Some(&request.headers);
    }
    let response = table.get(&Resource::<HostIncomingResponse>::new_borrow(handle));
    response.ok().map(|response| &response.headers)
}
