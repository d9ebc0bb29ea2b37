//! Freezing, thawing and changing cells.
//!
//! A daemon freezes its own executables, and tells the daemons of the cells inside to do the same: it
//! asks them with the cell's name left out, which only a parent may.

use aurae_authz::Permit;
use aurae_model::CellPath;
use aurae_proto::cells as wire;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

use super::CellApi;
use super::messages::cell;
use super::place::{client, from_zone};
use crate::admit;
use crate::reply;
use crate::route;
use crate::runtime::cells::{Turn, Zone};
use crate::runtime::executables::Executables;
use crate::runtime::freezer::Freezer;

/// The task that answers did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon did not finish the call ({0}); inspect the cell, and try again")]
pub struct Unfinished(String);

impl CellApi {
    pub(super) async fn freeze_cell(
        &self,
        request: Request<wire::CellServiceFreezeRequest>,
    ) -> Result<Response<wire::CellServiceFreezeResponse>, Status> {
        let permit = admit::life::freeze(request).map_err(|error| reply::status(&error))?;
        self.set_frozen(permit, true).await?;
        Ok(Response::new(wire::CellServiceFreezeResponse {}))
    }

    pub(super) async fn thaw_cell(
        &self,
        request: Request<wire::CellServiceThawRequest>,
    ) -> Result<Response<wire::CellServiceThawResponse>, Status> {
        let permit = admit::life::thaw(request).map_err(|error| reply::status(&error))?;
        self.set_frozen(permit, false).await?;
        Ok(Response::new(wire::CellServiceThawResponse {}))
    }

    pub(super) async fn update_cell(
        &self,
        request: Request<wire::CellServiceUpdateRequest>,
    ) -> Result<Response<wire::CellServiceUpdateResponse>, Status> {
        let mut forwarded = request.get_ref().clone();
        let (permit, change) =
            admit::life::update(request).map_err(|error| reply::status(&error))?;
        let path = permit.resource();
        let updated = if let Some(keeper) = self.keeper(path)? {
            forwarded.cell.get_or_insert_default().name = path.split_last().1.to_string();
            let _room = keeper.room().map_err(|error| reply::status(&error))?;
            let forwarded = route::request(permit.principal(), &keeper, forwarded);
            let answer = client(&keeper).update(forwarded).await;
            let answer = answer.map_err(|status| from_zone(&keeper, status))?.into_inner();
            answer.cell.map(|cell| wire::Cell { name: path.to_string(), ..cell })
        } else {
            let turn = self.zone(path)?.turn().await;
            let (cells, path) = (self.cells.clone(), path.clone());
            // It goes on to its end, or is undone, even if the caller stops waiting.
            let task = tokio::spawn(async move { cells.update(&turn, &path, &change).await });
            let updated =
                task.await.map_err(|error| reply::status(&Unfinished(error.to_string())))?;
            Some(cell(updated.map_err(|error| reply::status(&error))?))
        };
        Ok(Response::new(wire::CellServiceUpdateResponse { cell: updated }))
    }

    /// What freezes this daemon's own executables; a node has none.
    pub(super) fn freezer(&self) -> Option<&Freezer> {
        self.executables.as_ref().map(Executables::freezer)
    }

    /// Whether this daemon's own zone stands still.
    pub(super) fn is_frozen(&self) -> bool {
        self.freezer().is_some_and(Freezer::is_frozen)
    }

    /// Goes on to its end, or is undone, even if the caller stops waiting: no cell is left standing by
    /// half.
    async fn set_frozen(
        &self,
        permit: Permit<Option<CellPath>>,
        frozen: bool,
    ) -> Result<(), Status> {
        let api = self.clone();
        let task = tokio::spawn(async move {
            match permit.resource() {
                Some(path) => api.set_cell_frozen(&permit, path, frozen).await,
                None => api.set_own_frozen(frozen).await,
            }
        });
        task.await.unwrap_or_else(|error| Err(reply::status(&Unfinished(error.to_string()))))
    }

    async fn set_cell_frozen<R>(
        &self,
        permit: &Permit<R>,
        path: &CellPath,
        frozen: bool,
    ) -> Result<(), Status> {
        if let Some(keeper) = self.keeper(path)? {
            let cell_name = path.split_last().1.to_string();
            let told = if frozen {
                // A thaw always gets through.
                let _room = keeper.room().map_err(|error| reply::status(&error))?;
                let request = wire::CellServiceFreezeRequest { cell_name };
                let request = route::request(permit.principal(), &keeper, request);
                client(&keeper).freeze(request).await.map(drop)
            } else {
                let request = wire::CellServiceThawRequest { cell_name };
                let request = route::request(permit.principal(), &keeper, request);
                client(&keeper).thaw(request).await.map(drop)
            };
            return told.map_err(|status| from_zone(&keeper, status));
        }
        let zone = self.zone(path)?;
        let turn = zone.turn().await;
        self.settle(&zone, &turn, frozen).await
    }

    /// This daemon's executables first, then the cells inside.
    async fn set_own_frozen(&self, frozen: bool) -> Result<(), Status> {
        let Some(freezer) = self.freezer() else { return self.settle_inside().await };
        if !frozen {
            let thawed = freezer.thaw().map_err(|error| reply::status(&error));
            return thawed.and(self.settle_inside().await);
        }
        freezer.freeze().await.map_err(|error| reply::status(&error))?;
        let settled = self.settle_inside().await;
        if settled.is_err() {
            let thawed = freezer.thaw().map_err(|error| reply::status(&error));
            // The first error is the one that tells why.
            let _ = thawed.and(self.settle_inside().await);
        }
        settled
    }

    /// Settles all cells inside at once; answers the first error when all have answered.
    async fn settle_inside(&self) -> Result<(), Status> {
        let mut settling = JoinSet::new();
        for zone in self.cells.zones() {
            let api = self.clone();
            settling.spawn(async move {
                let turn = zone.turn().await;
                let asked = turn.is_asked().map_err(|error| reply::status(&error))?;
                api.settle(&zone, &turn, asked).await
            });
        }
        settling.join_all().await.into_iter().collect()
    }

    /// Tells a cell's daemon what holds for it: it stands still if that was asked for by its name, or
    /// if the zone around it does. A daemon that fails to freeze has thawed.
    async fn settle(&self, zone: &Zone, turn: &Turn, asked: bool) -> Result<(), Status> {
        let cell_name = String::new();
        let frozen = asked || self.is_frozen();
        let told = if frozen {
            // A thaw always gets through.
            let _room = zone.room().map_err(|error| reply::status(&error))?;
            client(zone).freeze(wire::CellServiceFreezeRequest { cell_name }).await.map(drop)
        } else {
            client(zone).thaw(wire::CellServiceThawRequest { cell_name }).await.map(drop)
        };
        let noted = turn.note(frozen && told.is_ok(), asked);
        told.map_err(|status| from_zone(zone, status))?;
        noted.map_err(|error| reply::status(&error))
    }
}
