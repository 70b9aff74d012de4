//! The operating system's resolver.
//!
//! It takes a thread for each lookup until it has an answer, also when whoever asked has given up long ago. A name server
//! that does not answer, which may be a component's own, must not take the threads that everyone needs: so lookups are
//! bounded for as long as they run, for each channel and together.

use std::future::Future;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::address::{Resolver, Resolving};
use crate::limit;

tokio::task_local! {
    /// The lookups of the channel that a name is looked up for.
    static OF_CHANNEL: Arc<Semaphore>;
}

/// How many names one channel looks up at once.
#[derive(Debug, Clone)]
pub(super) struct Lookups(Arc<Semaphore>);

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limit::LOOKUPS_PER_CHANNEL_MAX)))
    }
}

impl Lookups {
    /// Carries out what may look up names for the channel.
    pub(super) async fn scope<T>(&self, work: impl Future<Output = T>) -> T {
        OF_CHANNEL.scope(Arc::clone(&self.0), work).await
    }
}

/// Looks one name up, and takes as long as it takes.
type LookUp = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The operating system's resolver.
pub struct SystemResolver {
    look_up: Arc<LookUp>,
    all: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::asking(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }
}

impl SystemResolver {
    /// Asks something else that takes a thread until it has an answer.
    pub fn asking(look_up: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self {
            look_up: Arc::new(look_up),
            all: Arc::new(Semaphore::new(limit::LOOKUPS_MAX)),
        }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        let of_channel = OF_CHANNEL.try_with(Arc::clone).ok();
        Box::pin(async move {
            let own = match of_channel {
                Some(lookups) => Some(lookups.acquire_owned().await.map_err(io::Error::other)?),
                None => None,
            };
            let any = Arc::clone(&self.all).acquire_owned().await.map_err(io::Error::other)?;
            let (look_up, name) = (Arc::clone(&self.look_up), name.to_owned());
            let looking_up = tokio::task::spawn_blocking(move || {
                let _until_it_ends = (own, any);
                look_up(&name)
            });
            looking_up.await.map_err(io::Error::other)?
        })
    }
}
