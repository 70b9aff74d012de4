//! Bounds for the words that a request of `wasi:http` is put together from.
//!
//! The host keeps them as long as the guest keeps the request, sent or not, and the library takes a method or an authority
//! of any length: some hundred of them, each nearly as large as the guest's memory, would end the gateway.

use wasmtime::component::{ComponentNamedList, Lift, Linker, Lower, Resource};
use wasmtime::{StoreContextMut, bail, error::Context as _};
use wasmtime_wasi_http::p2::HeaderResult;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, HeaderError, Host, HostFields, HostFutureIncomingResponse, HostOutgoingRequest, Method,
};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse as FutureResponse, HostIncomingResponse as Response, HostOutgoingRequest as Request,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView as _};

use super::lists;
use crate::guest::Guest;
use crate::limit;

/// As the library names what it links; each `0.2` that a guest imports leads there.
const TYPES: &str = "wasi:http/types@0.2.12";

/// What a setter answers: an error without words.
type Set = wasmtime::Result<(Result<(), ()>,)>;
/// What a change of a list of headers answers.
type Changed<T> = wasmtime::Result<(Result<T, HeaderError>,)>;
/// What a guest gets that asks for an answer: none yet, one, or that it had it already.
type Answered = wasmtime::Result<(Option<Result<Result<Resource<Response>, ErrorCode>, ()>>,)>;

/// Puts a bound before the library's own functions, which must be linked already.
///
/// # Errors
/// When the library has none of such a name: then a guest would call what it has in its place, without a bound.
pub(crate) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    before(linker, "[method]outgoing-request.set-method", set_method)?;
    before(linker, "[method]outgoing-request.set-authority", set_authority)?;
    before(linker, "[method]outgoing-request.set-path-with-query", set_path)?;
    before(linker, "[static]fields.from-list", from_list)?;
    before(linker, "[method]fields.set", set)?;
    before(linker, "[method]fields.append", append)?;
    before(linker, "[method]fields.clone", copy)?;
    before(linker, "[method]future-incoming-response.get", response)
}

fn before<P, R>(
    linker: &mut Linker<Guest>,
    name: &str,
    function: fn(StoreContextMut<'_, Guest>, P) -> wasmtime::Result<R>,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + 'static,
    R: ComponentNamedList + Lower + 'static,
{
    // What is there already can't be defined without leave to.
    if linker.instance(TYPES)?.func_wrap(name, function).is_ok() {
        bail!("the host of `wasi:http` has no `{name}` of `{TYPES}`, so that its bound would hold nobody");
    }
    linker.allow_shadowing(true);
    let bounded = linker.instance(TYPES)?.func_wrap(name, function);
    linker.allow_shadowing(false);
    bounded
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

fn from_list(
    mut guest: StoreContextMut<'_, Guest>,
    (entries,): (Vec<(String, Vec<u8>)>,),
) -> Changed<Resource<FieldMap>> {
    let sizes = entries
        .iter()
        .map(|(name, value)| lists::header_size(name.len(), value.len()));
    grow(guest.data_mut(), sizes.sum())?;
    let mut http = guest.data_mut().http();
    let made = http.from_list(entries);
    Ok((typed(&mut http, made)?,))
}

fn set(
    mut guest: StoreContextMut<'_, Guest>,
    (fields, name, values): (Resource<FieldMap>, String, Vec<Vec<u8>>),
) -> Changed<()> {
    let sizes = values.iter().map(|value| lists::header_size(name.len(), value.len()));
    grow(guest.data_mut(), sizes.sum())?;
    let mut http = guest.data_mut().http();
    let changed = HostFields::set(&mut http, fields, name, values);
    Ok((typed(&mut http, changed)?,))
}

fn append(
    mut guest: StoreContextMut<'_, Guest>,
    (fields, name, value): (Resource<FieldMap>, String, Vec<u8>),
) -> Changed<()> {
    grow(guest.data_mut(), lists::header_size(name.len(), value.len()))?;
    let mut http = guest.data_mut().http();
    let changed = http.append(fields, name, value);
    Ok((typed(&mut http, changed)?,))
}

fn copy(
    mut guest: StoreContextMut<'_, Guest>,
    (fields,): (Resource<FieldMap>,),
) -> wasmtime::Result<(Resource<FieldMap>,)> {
    let bytes = lists::size(guest.data_mut().table.get(&fields)?);
    grow(guest.data_mut(), bytes)?;
    Ok((HostFields::clone(&mut guest.data_mut().http(), fields)?,))
}

fn response(mut guest: StoreContextMut<'_, Guest>, (answer,): (Resource<FutureResponse>,)) -> Answered {
    let guest = guest.data_mut();
    let answer = HostFutureIncomingResponse::get(&mut guest.http(), answer)?;
    if let Some(Ok(Ok(response))) = &answer {
        let bytes = lists::size(&guest.table.get(response)?.headers);
        grow(guest, bytes)?;
    }
    Ok((answer,))
}

/// Notes that lists of headers grow; ends the guest where the channel has as many as it may, as the library does where one
/// of them is too large: the contract has no word for it.
fn grow(guest: &mut Guest, bytes: usize) -> wasmtime::Result<()> {
    guest
        .grow_header_lists(bytes)
        .then_some(())
        .context("the host keeps too many headers for this channel")
}

fn typed<T>(http: &mut impl Host, result: HeaderResult<T>) -> wasmtime::Result<Result<T, HeaderError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(http.convert_header_error(error)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_would_hold_nobody_is_refused() {
        let mut linker = Linker::new(&wasmtime::Engine::default());
        let error = bound(&mut linker).expect_err("nothing is linked that it could be put before");
        assert!(error.to_string().contains("hold nobody"), "{error}");
    }
}
