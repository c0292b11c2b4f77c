//! What is signed: receipts, stream cursors and list cursors, with keys of the metadata shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::RwLock;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::error::Error;
use crate::ports::Shard;

type Signature = Hmac<Sha256>;

/// The signing keys, prepared.
pub(crate) struct Keys {
    metadata: Arc<dyn Shard>,
    prepared: RwLock<BTreeMap<u8, Signature>>,
}

/// One prepared key.
#[derive(Clone)]
pub(crate) struct Key {
    /// Its number.
    pub(crate) id: u8,
    signature: Signature,
}

impl Keys {
    pub(crate) fn new(metadata: Arc<dyn Shard>) -> Self {
        Self { metadata, prepared: RwLock::default() }
    }

    /// The newest key, which signs.
    ///
    /// # Errors
    /// [`Error::NoLeader`] while the cluster has none yet.
    pub(crate) fn newest(&self) -> Result<Key, Error> {
        let newest = self.metadata.state().cluster_keys.last_key_value().map(|(id, _)| *id);
        newest.and_then(|id| self.get(id)).ok_or(Error::NoLeader)
    }

    /// The key of that number.
    pub(crate) fn get(&self, id: u8) -> Option<Key> {
        if let Some(signature) = self.prepared.read().get(&id) {
            return Some(Key { id, signature: signature.clone() });
        }
        let secret = *self.metadata.state().cluster_keys.get(&id)?;
        let signature = Signature::new_from_slice(&secret).ok()?;
        self.prepared.write().insert(id, signature.clone());
        Some(Key { id, signature })
    }

    /// All keys, the newest first.
    pub(crate) fn all(&self) -> Vec<Key> {
        let ids: Vec<u8> = self.metadata.state().cluster_keys.keys().rev().copied().collect();
        ids.into_iter().filter_map(|id| self.get(id)).collect()
    }
}

impl Key {
    /// The first `N` bytes of the signature of `bytes`.
    fn sign<const N: usize>(&self, bytes: &[u8]) -> [u8; N] {
        let mut signature = self.signature.clone();
        signature.update(bytes);
        let full = signature.finalize().into_bytes();
        let mut cut = [0; N];
        cut.copy_from_slice(&full[..N]);
        cut
    }

    /// `prefix` and base64url of `bytes` with the first `N` bytes of their signature.
    pub(crate) fn seal<const N: usize>(&self, prefix: &str, mut bytes: Vec<u8>) -> String {
        let signature = self.sign::<N>(&bytes);
        bytes.extend_from_slice(&signature);
        let mut text = String::with_capacity(prefix.len() + bytes.len().div_ceil(3) * 4);
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
        text
    }
}

/// Opens what [`Key::seal`] made: the bytes whose signature holds under one of `keys`. In constant time.
pub(crate) fn open<const N: usize>(text: &str, prefix: &str, keys: impl Fn(&[u8]) -> Vec<Key>) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix)?).ok()?;
    let signed = bytes.len().checked_sub(N)?;
    let signature = bytes.split_off(signed);
    let good = keys(&bytes).iter().any(|key| bool::from(key.sign::<N>(&bytes).ct_eq(&signature[..])));
    good.then_some(bytes)
}
