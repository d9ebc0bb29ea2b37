//! Principals, actions and resources as Cedar's entities.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use aurae_model::CellPath;
use cedar_policy::{
    Entities, Entity, EntityId, EntityTypeName, EntityUid, PrincipalConstraint,
    RestrictedExpression,
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
    actions: HashMap<String, Entity>,
}

type Attributes = HashMap<String, RestrictedExpression>;

impl Vocabulary {
    pub(crate) fn new(contract: &Contract) -> Result<Self, String> {
        let name = |text| EntityTypeName::from_str(text).map_err(|error| error.to_string());
        let action_type = name("Action")?;
        let action = |id: &str| uid(&action_type, id);
        let actions = contract.actions().map(|method| {
            let groups = [method.access().as_str(), method.subsystem()].map(action);
            let entity = Entity::new_no_attrs(action(method.action()), groups.into());
            (method.action().to_owned(), entity)
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
    ) -> Result<([EntityUid; 3], Entities), String> {
        let action = self.actions.get(method.action());
        let action = action.ok_or_else(|| format!("{} is no action", method.action()))?;
        let principal = self.principal(principal)?;
        let mut entities = vec![action.clone()];
        let names = [principal.uid(), action.uid(), self.resource(object, &mut entities)?];
        entities.push(principal);
        let entities =
            Entities::from_entities(entities, None).map_err(|error| error.to_string())?;
        Ok((names, entities))
    }

    fn principal(&self, principal: &Principal) -> Result<Entity, String> {
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
        entity(uid(kind, name), attributes, roles.into_iter().collect())
    }

    /// Whether a policy's scope lets `principal` in; what cannot be told may.
    pub(crate) fn may_match(&self, scope: &PrincipalConstraint, principal: &Principal) -> bool {
        let Ok(entity) = self.principal(principal) else { return true };
        let name = entity.uid();
        let role = principal.role().map(|role| uid(&self.role, role.as_str()));
        let is_in = |uid: &EntityUid| *uid == name || role.as_ref() == Some(uid);
        match scope {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::In(uid) => is_in(uid),
            PrincipalConstraint::Eq(uid) => *uid == name,
            PrincipalConstraint::Is(kind) => kind == name.type_name(),
            PrincipalConstraint::IsIn(kind, uid) => kind == name.type_name() && is_in(uid),
        }
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
