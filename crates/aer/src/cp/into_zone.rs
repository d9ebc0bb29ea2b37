//! Files here to files in a zone.

use std::path::{Path, PathBuf};

use aurae_client::{Channel, Client};
use aurae_copy::{EntryPath, Item, Ownership, Reading};
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::cell_service_copy_in_request::Message;
use aurae_proto::cells::{CellServiceCopyInRequest, CopyInStart};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use super::place::{There, split};
use super::{Copy, failed, refused};
use crate::failure::Failure;

/// So many messages wait for the connection.
const QUEUE: usize = 2;

/// Where the entries go.
struct Target {
    client: Client,
    directory: String,
    /// Their first name, where it is not that of the source.
    name: Option<EntryPath>,
}

impl Copy {
    pub(super) async fn all_into_zone(
        &mut self,
        sources: &[PathBuf],
        target: &There,
    ) -> Result<(), Failure> {
        for source in sources {
            split(source)?;
        }
        let target = self.find(target, sources.len() > 1).await?;
        for source in sources {
            self.send(source, &target).await?;
        }
        Ok(())
    }

    /// Into the target where it is a directory, else under its name.
    async fn find(&mut self, there: &There, is_directory: bool) -> Result<Target, Failure> {
        let client = match &there.zone {
            Some(zone) => self.client.in_zone(zone),
            None => self.client.clone(),
        };
        let directory = there.path.clone();
        if is_directory || there.path.ends_with('/') {
            return Ok(Target { client, directory, name: None });
        }
        // A copy of nothing says whether the directory is there.
        let probe = Request::new(tokio_stream::once(self.start(&directory)));
        match CellServiceClient::new(client.channel()).copy_in(probe).await {
            Ok(_) => Ok(Target { client, directory, name: None }),
            Err(status) if is_no_directory(status.code()) => {
                let (parent, name) = split(Path::new(&there.path))?;
                let directory = parent.to_string_lossy().into_owned();
                Ok(Target { client, directory, name: Some(name) })
            }
            Err(status) => Err(refused(&client, status, &format!("failed to look at {directory}"))),
        }
    }

    fn start(&self, directory: &str) -> CellServiceCopyInRequest {
        let preserve_ownership = self.ownership == Ownership::Preserved;
        let start = CopyInStart { directory: directory.to_owned(), preserve_ownership };
        CellServiceCopyInRequest { message: Some(Message::Start(start)) }
    }

    async fn send(&mut self, source: &Path, target: &Target) -> Result<(), Failure> {
        let what = format!("failed to copy {}", source.display());
        let reading = Reading::start(source.to_owned(), target.name.clone(), ());
        let mut reading = reading.map_err(|error| failed(&error, &what))?;
        let (messages, receiver) = mpsc::channel(QUEUE);
        // There is room: it is the first.
        let _ = messages.send(self.start(&target.directory)).await;
        let mut cells: CellServiceClient<Channel> = CellServiceClient::new(target.client.channel());
        let answer = cells.copy_in(ReceiverStream::new(receiver));
        tokio::pin!(answer);
        let outcome = tokio::select! {
            // Before all was sent, it is why no more is wanted.
            outcome = &mut answer => outcome,
            fed = feed(&mut reading, &messages, &mut self.progress) => {
                fed.map_err(|error| failed(&error, &what))?;
                drop(messages);
                tokio::select! {
                    outcome = answer => outcome,
                    failure = self.stops.next() => return Err(failure),
                }
            }
            failure = self.stops.next() => return Err(failure),
        };
        outcome.map(drop).map_err(|status| refused(&target.client, status, &what))
    }
}

/// Sends what is read. It never ends once nobody takes it: the answer says why.
async fn feed(
    reading: &mut Reading,
    messages: &mpsc::Sender<CellServiceCopyInRequest>,
    progress: &mut super::Progress,
) -> Result<(), aurae_copy::CopyError> {
    while let Some(item) = reading.next().await? {
        let message = match item {
            Item::Entry(entry) => {
                progress.entry();
                Message::Entry(entry.into())
            }
            Item::Data(bytes) => {
                progress.data(bytes.len());
                Message::Data(bytes)
            }
            Item::Skipped { path, reason } => {
                progress.skipped(&path, reason);
                continue;
            }
        };
        let request = CellServiceCopyInRequest { message: Some(message) };
        if messages.send(request).await.is_err() {
            return std::future::pending().await;
        }
    }
    Ok(())
}

/// It does not exist, or is something else.
fn is_no_directory(code: Code) -> bool {
    matches!(code, Code::NotFound | Code::FailedPrecondition)
}
