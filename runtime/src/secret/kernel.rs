//! Secrets that the Linux kernel keeps for the gateway's user: `keyctl padd user NAME @u` puts one there.
//!
//! Chosen over the Secret Service of a desktop, which needs a session bus and somebody who unlocks it: a server has
//! neither. Such a key is in no file and no environment, and gone with the next start of the machine.

use zeroize::Zeroizing;

use super::SecretError;

/// Reads the payload of the key with this name, from the session's keyring or else the user's.
#[cfg(target_os = "linux")]
pub(super) fn read(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    use linux_keyutils::KeyError;

    /// errno(3), which the library has no word for.
    const ENOSYS: i32 = 38;
    linux::find(name).map_err(|error| {
        let reason = match error {
            KeyError::KeyDoesNotExist => return SecretError::KeyMissing(name.to_owned()),
            KeyError::KeyExpired => "the key has expired".to_owned(),
            KeyError::KeyRevoked => "the key was revoked".to_owned(),
            KeyError::InvalidDescription => "the name can't be that of a key".to_owned(),
            KeyError::AccessDenied => "the key may not be read".to_owned(),
            KeyError::PermissionDenied => "keyctl(2) is not allowed here, as in many containers".to_owned(),
            KeyError::Unknown(ENOSYS) => "this kernel has no keyring".to_owned(),
            other => format!("{other:?}"),
        };
        SecretError::KeyUnusable {
            name: name.to_owned(),
            reason,
        }
    })
}

/// Reads nothing: only Linux has such keys.
#[cfg(not(target_os = "linux"))]
pub(super) fn read(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    Err(SecretError::KeyUnusable {
        name: name.to_owned(),
        reason: "only Linux has a keyring in its kernel".to_owned(),
    })
}

#[cfg(target_os = "linux")]
mod linux {
    use linux_keyutils::{Key, KeyError, KeyRing, KeyRingIdentifier};
    use zeroize::Zeroizing;

    use crate::limit;

    pub(super) fn find(name: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let session = KeyRing::from_special_id(KeyRingIdentifier::Session, false);
        if let Ok(key) = session.and_then(|session| session.search(name)) {
            return value(&key);
        }
        // A key may only be read by who possesses it, and a service's session does not lead to its user's keyring: for
        // the moment of reading, a keyring of this thread does.
        let own = KeyRing::from_special_id(KeyRingIdentifier::Thread, true)?;
        own.link_keyring_id(KeyRingIdentifier::User)?;
        let read = own.search(name).and_then(|key| value(&key));
        own.unlink_keyring_id(KeyRingIdentifier::User)?;
        read
    }

    fn value(key: &Key) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        // More than the kernel takes: 32,767 bytes (keyrings(7)).
        let mut bytes = Zeroizing::new(vec![0; limit::SECRET_BYTES_MAX]);
        let length = key.read(&mut *bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}
