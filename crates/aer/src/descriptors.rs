//! The API's descriptor sets, a file at a time: to decode all of them takes longer than a call.
//!
//! A `FileDescriptorSet` is its files one after the other, so a part of it is a set too. Of each file only the
//! head is read: what it is called, what it imports, and which command groups its services are in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::{DecodeError, Message};

/// A `google.protobuf.FileDescriptorSet` whose files stay as they are.
#[derive(Clone, PartialEq, Message)]
struct Set {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

/// The part of a `google.protobuf.FileDescriptorProto` that is read.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    imports: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

/// Of a `google.protobuf.ServiceDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "3")]
    options: Option<Options>,
}

/// Of a `google.protobuf.ServiceOptions`.
#[derive(Clone, PartialEq, Message)]
struct Options {
    /// `aurae.cli.v0.service`
    #[prost(message, optional, tag = "50100")]
    cli: Option<ServiceCli>,
}

/// An `aurae.cli.v0.ServiceCli`.
#[derive(Clone, PartialEq, Message)]
struct ServiceCli {
    #[prost(string, tag = "1")]
    group: String,
}

/// The files of descriptor sets.
pub(crate) struct Files {
    files: Vec<(Head, Bytes)>,
}

impl Files {
    /// Those of these sets.
    pub(crate) fn of(sets: &[&'static [u8]]) -> Result<Self, DecodeError> {
        let mut files = Vec::new();
        for set in sets {
            for file in Set::decode(Bytes::from_static(set))?.files {
                files.push((Head::decode(file.clone())?, file));
            }
        }
        Ok(Self { files })
    }

    /// The command groups, and the full names of the services in each.
    pub(crate) fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups = BTreeMap::<String, Vec<String>>::new();
        for (head, _) in &self.files {
            for service in &head.services {
                let name = format!("{}.{}", head.package, service.name);
                groups.entry(service.group(&head.package)).or_default().push(name);
            }
        }
        groups
    }

    /// The set of those files that have a service in one of the groups, and of what they import.
    pub(crate) fn only(&self, groups: &BTreeSet<&str>) -> Vec<u8> {
        let mut wanted = BTreeSet::new();
        // What is imported stands before.
        for (head, _) in self.files.iter().rev() {
            let mut services = head.services.iter();
            if wanted.contains(head.name.as_str())
                || services.any(|service| groups.contains(service.group(&head.package).as_str()))
            {
                wanted.insert(head.name.as_str());
                wanted.extend(head.imports.iter().map(String::as_str));
            }
        }
        let files = self.files.iter().filter(|(head, _)| wanted.contains(head.name.as_str()));
        Set { files: files.map(|(_, file)| file.clone()).collect() }.encode_to_vec()
    }
}

impl Service {
    /// The command group that it is in.
    fn group(&self, package: &str) -> String {
        let named = self.options.as_ref().and_then(|options| options.cli.as_ref());
        match named.map(|cli| cli.group.as_str()) {
            Some(group) if !group.is_empty() => group.to_owned(),
            _ => {
                // `aurae.cells.v0` → `cells`
                let mut labels = package.rsplit('.');
                let last = labels.next().unwrap_or_default();
                labels.next().unwrap_or(last).to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    fn files() -> Files {
        Files::of(&[aurae_proto::BARE_FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET])
            .unwrap()
    }

    #[test]
    fn each_group_alone_has_what_it_needs() {
        let files = files();
        for (group, services) in files.groups() {
            let set = files.only(&BTreeSet::from([group.as_str()]));
            let pool = DescriptorPool::decode(set.as_slice()).unwrap();
            for service in services {
                assert!(pool.get_service_by_name(&service).is_some(), "{service}");
            }
            // The largest is in the groups that are its own alone.
            let cells = pool.get_service_by_name("aurae.cells.v0.CellService");
            assert_eq!(cells.is_some(), group == "cell", "{group}");
        }
    }

    #[test]
    fn no_group_needs_nothing() {
        assert!(files().only(&BTreeSet::new()).is_empty());
    }
}
