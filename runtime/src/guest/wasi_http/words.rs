//! Bounds for the words that a request of `wasi:http` is put together from.
//!
//! The host keeps them as long as the guest keeps the request, sent or not, and the library takes a method or an authority
//! of any length: some hundred of them, each nearly as large as the guest's memory, would end the gateway.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest, Method};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest as Request;

use crate::guest::Guest;
use crate::limit;

/// As the library names what it links; each `0.2` that a guest imports leads there.
const TYPES: &str = "wasi:http/types@0.2.12";

/// What a setter answers: an error without words.
type Set = wasmtime::Result<(Result<(), ()>,)>;

/// Puts a bound before the library's own functions, which must be linked already.
pub(crate) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[method]outgoing-request.set-method", set_method)?;
    types.func_wrap("[method]outgoing-request.set-authority", set_authority)?;
    types.func_wrap("[method]outgoing-request.set-path-with-query", set_path)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn set_method(mut guest: StoreContextMut<'_, Guest>, (request, method): (Resource<Request>, Method)) -> Set {
    if matches!(&method, Method::Other(word) if word.len() > limit::GUEST_HTTP_WORD_BYTES_MAX) {
        return Ok((Err(()),));
    }
    Ok((guest.data_mut().http().set_method(request, method)?,))
}

fn set_authority(mut guest: StoreContextMut<'_, Guest>, (request, word): (Resource<Request>, Option<String>)) -> Set {
    if is_longer(word.as_deref(), limit::GUEST_HTTP_WORD_BYTES_MAX) {
        return Ok((Err(()),));
    }
    Ok((guest.data_mut().http().set_authority(request, word)?,))
}

fn set_path(mut guest: StoreContextMut<'_, Guest>, (request, path): (Resource<Request>, Option<String>)) -> Set {
    if is_longer(path.as_deref(), limit::URL_BYTES_MAX) {
        return Ok((Err(()),));
    }
    Ok((guest.data_mut().http().set_path_with_query(request, path)?,))
}

fn is_longer(word: Option<&str>, bytes_max: usize) -> bool {
    word.is_some_and(|word| word.len() > bytes_max)
}
