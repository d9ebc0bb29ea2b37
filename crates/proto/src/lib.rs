//! The wire contract: messages, clients and servers generated from `api/` at build time.
//!
//! The documentation of every item stands in the `.proto` files, and is copied here.

#![forbid(unsafe_code)]

/// The encoded `FileDescriptorSet` of the whole API with its comments and options: what reflection
/// serves and the command line is derived from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The same without comments: quicker to read, for those who show none.
pub const BARE_FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors-bare.bin"));

/// Nests a generated package as a module tree.
macro_rules! package {
    ($name:ident, $package:literal) => {
        #[doc = concat!("Package `", $package, "`.")]
        pub mod $name {
            #![expect(
                clippy::allow_attributes,
                clippy::allow_attributes_without_reason,
                unused_qualifications,
                reason = "generated; documented in the .proto files"
            )]
            tonic::include_proto!($package);
        }
    };
}

package!(audit, "aurae.audit.v0");
package!(auth, "aurae.auth.v0");
package!(cells, "aurae.cells.v0");
package!(discovery, "aurae.discovery.v0");
package!(node, "aurae.node.v0");
package!(observe, "aurae.observe.v0");
