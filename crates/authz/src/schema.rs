//! The Cedar schema: what policies may speak of. It is generated from the contract, so that a policy which
//! misspells an action, or looks at a field that a request does not have, is refused when it is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::contract::{Access, Contract, Method};

/// Who asks, and what there is. An entity's name is the principal's, or the resource's zone path.
const ENTITIES: &str = r#"// Roles, by the first part of a SPIFFE ID's path.
entity Role enum ["admin", "operator", "reader"];

// Who asks, by the form of the name: one cannot pass for another.
entity Spiffe in [Role] = { name: String, trust_domain: String, path: String };
entity Dns = { name: String };
entity CommonName = { name: String };
entity Serial = { name: String };
entity Workload = { name: String };

// What there is: cells in the node, cells in cells, executables in either. `name` is the last part, `path`
// all of it.
entity Node = { name: String, path: String };
entity Cell in [Node, Cell] = { name: String, path: String };
entity Executable in [Node, Cell] = { name: String, path: String };

// Groups of actions: by what they can do, and by subsystem.
"#;

/// The types of principals.
pub(crate) const PRINCIPALS: [&str; 5] = ["Spiffe", "Dns", "CommonName", "Serial", "Workload"];

/// The schema in Cedar's own syntax.
#[must_use]
pub fn schema(contract: &Contract) -> String {
    let mut text = String::from(ENTITIES);
    let groups: BTreeSet<&str> =
        Access::ALL.map(Access::as_str).into_iter().chain(contract.subsystems()).collect();
    for group in groups {
        let _ = writeln!(text, "action \"{group}\";");
    }
    let mut types = BTreeMap::new();
    for method in contract.actions() {
        method.record().collect_types(&mut types);
    }
    text.push_str("\n// The messages inside requests.\n");
    for (name, body) in &types {
        let _ = writeln!(text, "type {name} = {body};");
    }
    for method in contract.actions() {
        text.push('\n');
        text.push_str(&action(method));
    }
    text
}

fn action(method: &Method) -> String {
    let resources = match method.is_of_executable() {
        true => "[Executable]",
        false => "[Node, Cell]",
    };
    let record = method.record();
    let context = match record.is_empty() {
        true => String::new(),
        false => format!(",\n  context: {}", record.body()),
    };
    format!(
        "action \"{}\" in [\"{}\", \"{}\"] appliesTo {{\n  principal: [{}],\n  resource: {resources}{context}\n}};\n",
        method.action(),
        method.access().as_str(),
        method.subsystem(),
        PRINCIPALS.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use cedar_policy::Schema;

    use super::*;
    use crate::tests::contract;

    #[test]
    fn the_schema_is_one_and_has_every_action() {
        let text = schema(contract());
        let (schema, warnings) = Schema::from_cedarschema_str(&text).unwrap();
        assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), [""; 0]);
        let groups = Access::ALL.len() + contract().subsystems().len();
        assert_eq!(schema.actions().count(), contract().actions().count() + groups);
        assert!(text.contains("isolate_process: Bool"), "{text}");
        assert!(text.contains("memory?: cells_MemoryController"), "{text}");
    }
}
