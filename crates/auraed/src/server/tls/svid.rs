//! An identity that a SPIFFE Workload API gave, with those whom it says to believe.

use std::collections::BTreeMap;
use std::fmt;

/// An X.509-SVID and the bundles that came with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Svid {
    /// Its SPIFFE ID.
    pub id: String,
    /// The certificate and those between it and the authority's, DER.
    pub chain: Vec<Vec<u8>>,
    /// The private key, PKCS #8, DER.
    pub key: Vec<u8>,
    /// The authorities of its own trust domain and of those it is federated with, DER, by their names.
    pub bundles: BTreeMap<String, Vec<Vec<u8>>>,
}

impl fmt::Debug for Svid {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bundles: Vec<_> = self.bundles.keys().collect();
        formatter
            .debug_struct("Svid")
            .field("id", &self.id)
            .field("bundles", &bundles)
            .finish_non_exhaustive()
    }
}
