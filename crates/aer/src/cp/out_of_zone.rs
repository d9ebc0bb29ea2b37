//! Files in a zone to files here. The zone is not trusted: what it sends is checked as the zone checks
//! what we send, and the first part of every path is the name that we gave.

use std::path::{Path, PathBuf};

use aurae_client::Client;
use aurae_copy::{EntryPath, Kind, Step, Writing, parse_entry};
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::cell_service_copy_out_response::Message;
use aurae_proto::cells::{CellServiceCopyOutRequest, CellServiceCopyOutResponse, CopyEntry};
use tonic::Streaming;

use super::place::{There, ends_with_slash, split};
use super::progress::Progress;
use super::{Copy, failed, refused};
use crate::failure::Failure;

/// A copy out of a zone, under way.
struct Download<'a> {
    client: Client,
    messages: Streaming<CellServiceCopyOutResponse>,
    writing: Writing,
    /// What the copy is called here.
    name: EntryPath,
    what: String,
    progress: &'a mut Progress,
}

impl Copy {
    pub(super) async fn all_out_of_zone(
        &mut self,
        sources: &[There],
        target: &Path,
    ) -> Result<(), Failure> {
        let into = sources.len() > 1 || ends_with_slash(target.as_os_str()) || target.is_dir();
        for source in sources {
            let (_, name) = split(Path::new(&source.path))?;
            let (directory, name) = if into { (target.to_owned(), name) } else { split(target)? };
            self.fetch(source, directory, name).await?;
        }
        Ok(())
    }

    async fn fetch(
        &mut self,
        source: &There,
        directory: PathBuf,
        name: EntryPath,
    ) -> Result<(), Failure> {
        let what = format!("failed to copy {}", source.path);
        let client = match &source.zone {
            Some(zone) => self.client.in_zone(zone),
            None => self.client.clone(),
        };
        let request = CellServiceCopyOutRequest { path: source.path.clone() };
        let answer = CellServiceClient::new(client.channel()).copy_out(request).await;
        let messages = answer.map_err(|status| refused(&client, status, &what))?.into_inner();
        let writing = Writing::start(directory, self.ownership, ());
        let writing = writing.map_err(|error| failed(&error, &what))?;
        let progress = &mut self.progress;
        let mut download = Download { client, messages, writing, name, what, progress };
        let outcome = tokio::select! {
            outcome = download.receive() => outcome,
            failure = self.stops.next() => Err(failure),
        };
        match outcome {
            Ok(()) => {
                let finished = download.writing.finish().await;
                finished.map(drop).map_err(|error| failed(&error, &download.what))
            }
            Err(failure) => {
                // Nothing half is left when we go.
                download.writing.abandon().await;
                Err(failure)
            }
        }
    }
}

impl Download<'_> {
    async fn receive(&mut self) -> Result<(), Failure> {
        loop {
            let message = self.messages.message().await;
            let message = message.map_err(|status| refused(&self.client, status, &self.what))?;
            let Some(CellServiceCopyOutResponse { message }) = message else { return Ok(()) };
            let step = match message {
                Some(Message::Entry(entry)) => {
                    self.progress.entry();
                    self.entry(entry).map_err(|why| self.bad(&why))?
                }
                Some(Message::Data(bytes)) => {
                    self.progress.data(bytes.len());
                    Step::Data(bytes)
                }
                Some(Message::Skipped(skipped)) => {
                    let path = EntryPath::parse(&skipped.path, "skipped.path");
                    let path = path.map_err(|why| self.bad(&why))?;
                    self.progress.skipped(&path, &skipped.reason);
                    continue;
                }
                // A later daemon may say what we do not know, and need not.
                None => continue,
            };
            let written = self.writing.step(step).await;
            written.map_err(|error| failed(&error, &self.what))?;
        }
    }

    fn entry(&self, entry: CopyEntry) -> Result<Step, aurae_copy::Invalid> {
        let mut entry = parse_entry(entry)?;
        entry.path = entry.path.below(&self.name)?;
        if let Kind::Hardlink(first) = &mut entry.kind {
            *first = first.below(&self.name)?;
        }
        Ok(Step::Entry(entry))
    }

    fn bad(&self, why: &aurae_copy::Invalid) -> Failure {
        Failure::new(format!("the node sent what is no entry: {why}")).during(&self.what)
    }
}
