//! Principals, actions and resources as Cedar's entities.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use aurae_model::CellPath;
use cedar_policy::{
    ActionConstraint, Entities, Entity, EntityId, EntityTypeName, EntityUid, PrincipalConstraint,
    ResourceConstraint, RestrictedExpression,
};

use crate::contract::{Contract, Method};
use crate::{Executable, Form, Object, Principal};

/// The types of entities, and the actions, read once.
pub(crate) struct Vocabulary {
    role: EntityTypeName,
    spiffe: EntityTypeName,
    dns: EntityTypeName,
    common_name: EntityTypeName,
    serial: EntityTypeName,
    workload: EntityTypeName,
    node: EntityTypeName,
    cell: EntityTypeName,
    executable: EntityTypeName,
    /// By the actions' names; each has its groups.
    actions: HashMap<String, (Kin, Entity)>,
}

/// A question in Cedar's words.
pub(crate) struct Spoken {
    pub(crate) principal: Kin,
    pub(crate) action: Kin,
    pub(crate) resource: Kin,
    /// All that is known of them.
    pub(crate) entities: Entities,
}

/// An entity's name, and the names of all that it is in.
#[derive(Clone)]
pub(crate) struct Kin {
    pub(crate) name: EntityUid,
    around: Vec<EntityUid>,
}

impl Kin {
    fn is_in(&self, uid: &EntityUid) -> bool {
        self.name == *uid || self.around.contains(uid)
    }

    fn is_a(&self, kind: &EntityTypeName) -> bool {
        self.name.type_name() == kind
    }

    pub(crate) fn fits_principal(&self, scope: &PrincipalConstraint) -> bool {
        match scope {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::In(uid) => self.is_in(uid),
            PrincipalConstraint::Eq(uid) => self.name == *uid,
            PrincipalConstraint::Is(kind) => self.is_a(kind),
            PrincipalConstraint::IsIn(kind, uid) => self.is_a(kind) && self.is_in(uid),
        }
    }

    pub(crate) fn fits_action(&self, scope: &ActionConstraint) -> bool {
        match scope {
            ActionConstraint::Any => true,
            ActionConstraint::In(uids) => uids.iter().any(|uid| self.is_in(uid)),
            ActionConstraint::Eq(uid) => self.name == *uid,
        }
    }

    pub(crate) fn fits_resource(&self, scope: &ResourceConstraint) -> bool {
        match scope {
            ResourceConstraint::Any => true,
            ResourceConstraint::In(uid) => self.is_in(uid),
            ResourceConstraint::Eq(uid) => self.name == *uid,
            ResourceConstraint::Is(kind) => self.is_a(kind),
            ResourceConstraint::IsIn(kind, uid) => self.is_a(kind) && self.is_in(uid),
        }
    }
}

type Attributes = HashMap<String, RestrictedExpression>;

impl Vocabulary {
    pub(crate) fn new(contract: &Contract) -> Result<Self, String> {
        let name = |text| EntityTypeName::from_str(text).map_err(|error| error.to_string());
        let action_type = name("Action")?;
        let action = |id: &str| uid(&action_type, id);
        let actions = contract.actions().map(|method| {
            let groups = [method.access().as_str(), method.subsystem()].map(action);
            let kin = Kin { name: action(method.action()), around: groups.to_vec() };
            let entity = Entity::new_no_attrs(kin.name.clone(), groups.into());
            (method.action().to_owned(), (kin, entity))
        });
        Ok(Self {
            role: name("Role")?,
            spiffe: name("Spiffe")?,
            dns: name("Dns")?,
            common_name: name("CommonName")?,
            serial: name("Serial")?,
            workload: name("Workload")?,
            node: name("Node")?,
            cell: name("Cell")?,
            executable: name("Executable")?,
            actions: actions.collect(),
        })
    }

    /// Who asks for what on what, and all that is known of them.
    pub(crate) fn speak(
        &self,
        principal: &Principal,
        method: &Method,
        object: &Object,
    ) -> Result<Spoken, String> {
        let action = self.actions.get(method.action());
        let (action, groups) = action.ok_or_else(|| format!("{} is no action", method.action()))?;
        let (principal, who) = self.principal(principal)?;
        let mut entities = Vec::new();
        let name = self.resource(object, &mut entities)?;
        let resource = Kin { name, around: entities.iter().map(Entity::uid).collect() };
        entities.extend([groups.clone(), who]);
        let entities =
            Entities::from_entities(entities, None).map_err(|error| error.to_string())?;
        Ok(Spoken { principal, action: action.clone(), resource, entities })
    }

    fn principal(&self, principal: &Principal) -> Result<(Kin, Entity), String> {
        let name = principal.name();
        let mut attributes = attributes([("name", name)]);
        let kind = match principal.form() {
            Form::Spiffe => {
                let (trust_domain, path) = principal.spiffe_parts().unwrap_or_default();
                attributes
                    .extend(self::attributes([("trust_domain", trust_domain), ("path", path)]));
                &self.spiffe
            }
            Form::Dns => &self.dns,
            Form::CommonName => &self.common_name,
            Form::Serial => &self.serial,
            Form::Executable => &self.workload,
            // It asks zones, which have no policies.
            Form::Parent => return Err("the daemon above a zone is no principal here".into()),
        };
        let roles = principal.role().map(|role| uid(&self.role, role.as_str()));
        let kin = Kin { name: uid(kind, name), around: roles.into_iter().collect() };
        let entity = entity(kin.name.clone(), attributes, kin.around.iter().cloned().collect())?;
        Ok((kin, entity))
    }

    /// The groups of an action, and of a principal, as scopes see them; `None`: they cannot be told.
    pub(crate) fn asked(&self, principal: &Principal, method: &Method) -> Option<(Kin, &Kin)> {
        let (action, _) = self.actions.get(method.action())?;
        Some((self.principal(principal).ok()?.0, action))
    }

    /// Whether a policy's scope lets `principal` in; what cannot be told may.
    pub(crate) fn may_match(&self, scope: &PrincipalConstraint, principal: &Principal) -> bool {
        self.principal(principal).map_or(true, |(kin, _)| kin.fits_principal(scope))
    }

    /// Adds a resource and what it is in, and answers its name.
    fn resource(&self, object: &Object, entities: &mut Vec<Entity>) -> Result<EntityUid, String> {
        match object {
            Object::Zone(None) => self.node(entities),
            Object::Zone(Some(cell)) => self.cell(cell, entities),
            Object::Executable(Executable { cell, name }) => {
                let around = match cell {
                    Some(cell) => self.cell(cell, entities)?,
                    None => self.node(entities)?,
                };
                self.add(&self.executable, object, name.as_str(), Some(around), entities)
            }
        }
    }

    fn node(&self, entities: &mut Vec<Entity>) -> Result<EntityUid, String> {
        let node = Object::Zone(None);
        self.add(&self.node, &node, &node.to_string(), None, entities)
    }

    fn cell(&self, cell: &CellPath, entities: &mut Vec<Entity>) -> Result<EntityUid, String> {
        let mut around = self.node(entities)?;
        let mut path: Option<CellPath> = None;
        for label in cell.labels() {
            let next = match path {
                Some(path) => path.join(label),
                None => CellPath::from(label.clone()),
            };
            let object = Object::Zone(Some(next.clone()));
            around = self.add(&self.cell, &object, label.as_str(), Some(around), entities)?;
            path = Some(next);
        }
        Ok(around)
    }

    fn add(
        &self,
        kind: &EntityTypeName,
        object: &Object,
        name: &str,
        around: Option<EntityUid>,
        entities: &mut Vec<Entity>,
    ) -> Result<EntityUid, String> {
        let path = object.to_string();
        let uid = uid(kind, &path);
        let attributes = attributes([("name", name), ("path", &path)]);
        entities.push(entity(uid.clone(), attributes, around.into_iter().collect())?);
        Ok(uid)
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn attributes<const N: usize>(pairs: [(&str, &str); N]) -> Attributes {
    pairs
        .map(|(name, value)| (name.to_owned(), RestrictedExpression::new_string(value.to_owned())))
        .into()
}

fn entity(
    uid: EntityUid,
    attributes: Attributes,
    parents: HashSet<EntityUid>,
) -> Result<Entity, String> {
    Entity::new(uid, attributes, parents).map_err(|error| error.to_string())
}
