//! From a name to the addresses that a connection may use.
//!
//! Names are resolved here and nowhere else, and the connection is made to one of the addresses that were checked:
//! a name server that changes its answer between check and connection gains nothing.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use crate::limit;
use crate::policy::{AddressClass, Host, Permit};

/// The answer of a [`Resolver`] under way.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// A source of the addresses of names.
pub trait Resolver: Send + Sync + 'static {
    /// Returns all addresses of a name, in order of preference.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// Why a name led nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error(
        "{0} leads only to addresses of this machine or of a private network; the operator can grant it with `private = true`"
    )]
    OnlyPrivate(String),
    #[error("{0} leads only to addresses that no name may lead to, such as link-local or metadata addresses")]
    OnlyForbidden(String),
    #[error("{0} has no address")]
    Nothing(String),
    #[error("{0} was not resolved in time")]
    TimedOut(String),
    #[error("{name} can't be resolved: {source}")]
    Failed { name: String, source: io::Error },
}

impl ResolveError {
    /// Whether the policy said no, and not the network.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::OnlyPrivate(_) | Self::OnlyForbidden(_))
    }
}

/// A resolver that returns only what a permit allows.
#[derive(Clone)]
pub(super) struct CheckedResolver {
    pub(super) source: Arc<dyn Resolver>,
    pub(super) permit: Permit,
}

impl CheckedResolver {
    /// Returns the addresses of a name that may be connected to: never none.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = match tokio::time::timeout(limit::RESOLVE_TIMEOUT, self.source.resolve(name)).await {
            Ok(Ok(found)) => found,
            Ok(Err(source)) => {
                return Err(ResolveError::Failed {
                    name: name.to_owned(),
                    source,
                });
            }
            Err(_) => return Err(ResolveError::TimedOut(name.to_owned())),
        };
        if found.is_empty() {
            return Err(ResolveError::Nothing(name.to_owned()));
        }
        let allowed: Vec<IpAddr> = found
            .iter()
            .copied()
            .filter(|address| self.allows(name, *address))
            .collect();
        if !allowed.is_empty() {
            return Ok(allowed);
        }
        let is_private = |address: &IpAddr| {
            matches!(
                AddressClass::of(*address),
                AddressClass::Loopback | AddressClass::Private
            )
        };
        if !self.permit.private && found.iter().any(is_private) {
            Err(ResolveError::OnlyPrivate(name.to_owned()))
        } else {
            Err(ResolveError::OnlyForbidden(name.to_owned()))
        }
    }

    /// Returns the addresses of a granted host, with its port. One that was granted as an address is used as it is.
    pub(super) async fn socket_addresses(&self, host: &Host, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let addresses = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.addresses(name).await?,
        };
        Ok(addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect())
    }

    fn allows(&self, name: &str, address: IpAddr) -> bool {
        let is_localhost = name == "localhost" || name.ends_with(".localhost");
        match AddressClass::of(address) {
            AddressClass::Public => !is_localhost,
            AddressClass::Loopback => self.permit.private,
            AddressClass::Private => self.permit.private && !is_localhost,
            AddressClass::Special => false,
        }
    }
}

impl reqwest::dns::Resolve for CheckedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses = this.addresses(name.as_str()).await?;
            let sockets: reqwest::dns::Addrs =
                Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(sockets)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<IpAddr>);

    impl Resolver for Fixed {
        fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    struct Never;

    impl Resolver for Never {
        fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
            Box::pin(std::future::pending())
        }
    }

    async fn addresses(name: &str, private: bool, found: &[&str]) -> Result<Vec<String>, ResolveError> {
        let source = Arc::new(Fixed(found.iter().map(|text| text.parse().unwrap()).collect()));
        let checked = CheckedResolver {
            source,
            permit: Permit { private },
        };
        Ok(checked.addresses(name).await?.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn only_what_the_permit_allows_is_left() {
        let mixed = [
            "1.1.1.1",
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "::ffff:10.0.0.1",
            "2606:4700::1111",
        ];
        assert_eq!(
            addresses("x.example", false, &mixed).await.unwrap(),
            ["1.1.1.1", "2606:4700::1111"]
        );
        assert_eq!(
            addresses("x.example", true, &mixed).await.unwrap(),
            ["1.1.1.1", "10.0.0.1", "127.0.0.1", "::ffff:10.0.0.1", "2606:4700::1111"]
        );
        assert_eq!(addresses("localhost", true, &mixed).await.unwrap(), ["127.0.0.1"]);
    }

    #[tokio::test]
    async fn a_name_that_leads_to_the_wrong_place_is_a_denial() {
        let private = addresses("x.example", false, &["10.0.0.1", "127.0.0.1"])
            .await
            .unwrap_err();
        assert!(
            private.is_denial() && private.to_string().contains("private = true"),
            "{private}"
        );
        for granted_private in [false, true] {
            let metadata = addresses("x.example", granted_private, &["169.254.169.254"])
                .await
                .unwrap_err();
            assert!(matches!(metadata, ResolveError::OnlyForbidden(_)), "{metadata}");
        }
        assert!(!addresses("x.example", false, &[]).await.unwrap_err().is_denial());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_server_that_never_answers_is_given_up() {
        let checked = CheckedResolver {
            source: Arc::new(Never),
            permit: Permit { private: false },
        };
        assert!(matches!(
            checked.addresses("x.example").await,
            Err(ResolveError::TimedOut(_))
        ));
    }
}
