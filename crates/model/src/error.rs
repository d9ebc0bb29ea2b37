//! What a field that fails validation is told.

/// A field that breaks a rule. Its text is part of the wire contract: `Field = <path>; <rule>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Field = {field}; {rule}")]
pub struct Invalid {
    /// The field's path in the request, `cell.name` for example.
    pub field: String,
    /// The rule it breaks, for people.
    pub rule: String,
}

impl Invalid {
    /// A field that breaks `rule`.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }

    /// A field that is missing.
    pub fn required(field: impl Into<String>) -> Self {
        Self::new(field, "Required")
    }
}
