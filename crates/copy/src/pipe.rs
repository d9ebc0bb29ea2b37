//! A copy on a thread of its own, as something that can be awaited: a file system may make its caller
//! wait for long, and a zone has one thread for everything else.

use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::entry::{Entry, EntryPath};
use crate::error::CopyError;
use crate::read::{Item, Reader};
use crate::write::{Copied, Ownership, Writer};

/// So many items wait between the thread and its caller: one on its way, one being made.
const QUEUE: usize = 2;

/// A copy's thread calls itself nowhere.
const STACK_BYTES: usize = 256 * 1024;

/// A walk that goes on by itself, [`QUEUE`] items ahead. It ends when this is dropped.
#[derive(Debug)]
pub struct Reading(mpsc::Receiver<Result<Option<Item>, CopyError>>);

impl Reading {
    /// Starts a walk as [`Reader::open`] does. The thread keeps `guard` until it ends.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(
        source: PathBuf,
        name: Option<EntryPath>,
        guard: impl Send + 'static,
    ) -> Result<Self, CopyError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        on_thread(move || {
            let _guard = guard;
            let mut reader = match Reader::open(&source, name) {
                Ok(reader) => reader,
                Err(error) => return drop(sender.blocking_send(Err(error))),
            };
            loop {
                let item = reader.next_item();
                let last = !matches!(item, Ok(Some(_)));
                if sender.blocking_send(item).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    /// What the walk meets next, as [`Reader::next_item`]; not to be called after the end.
    ///
    /// # Errors
    /// Something cannot be read.
    pub async fn next(&mut self) -> Result<Option<Item>, CopyError> {
        self.0.recv().await.unwrap_or(Err(CopyError::Lost))
    }
}

/// A step of a copy.
#[derive(Debug)]
pub enum Step {
    /// A file, directory or link.
    Entry(Entry),
    /// Bytes of the file that was the last entry.
    Data(Bytes),
}

/// What is written by itself, [`QUEUE`] steps behind. Dropped before its end, it leaves no half file.
#[derive(Debug)]
pub struct Writing {
    /// None is the end.
    steps: mpsc::Sender<Option<Step>>,
    /// Unset once it was told.
    outcome: Option<oneshot::Receiver<Result<Copied, CopyError>>>,
}

impl Writing {
    /// Starts to write as [`Writer::open`] does. The thread keeps `guard` until it ends.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(
        directory: PathBuf,
        ownership: Ownership,
        guard: impl Send + 'static,
    ) -> Result<Self, CopyError> {
        let (steps, mut received) = mpsc::channel(QUEUE);
        let (tell, outcome) = oneshot::channel();
        on_thread(move || {
            let _guard = guard;
            let written = write(&directory, ownership, &mut received);
            // Where nobody waits for it any more, nobody is to be told.
            let _ = tell.send(written);
        })?;
        Ok(Self { steps, outcome: Some(outcome) })
    }

    /// Writes the next. It does not wait until that is done: an error is told at a later step.
    ///
    /// # Errors
    /// An earlier step failed. Nothing is to be asked after that.
    pub async fn step(&mut self, step: Step) -> Result<(), CopyError> {
        match self.steps.send(Some(step)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Answers when a step has failed, which may be never.
    pub async fn failure(&mut self) -> CopyError {
        let Some(outcome) = &mut self.outcome else { return CopyError::Lost };
        let told = outcome.await;
        self.outcome = None;
        match told {
            Ok(Err(error)) => error,
            Ok(Ok(_)) | Err(_) => CopyError::Lost,
        }
    }

    /// Ends the copy, and answers when all is there.
    ///
    /// # Errors
    /// A step failed, or the last file is not whole.
    pub async fn finish(self) -> Result<Copied, CopyError> {
        // Where the thread has ended already, its outcome says why.
        let _ = self.steps.send(None).await;
        match self.outcome {
            Some(outcome) => outcome.await.unwrap_or(Err(CopyError::Lost)),
            None => Err(CopyError::Lost),
        }
    }

    /// Gives the copy up, and answers when nothing half is left.
    pub async fn abandon(self) {
        drop(self.steps);
        if let Some(outcome) = self.outcome {
            let _ = outcome.await;
        }
    }
}

fn write(
    directory: &std::path::Path,
    ownership: Ownership,
    steps: &mut mpsc::Receiver<Option<Step>>,
) -> Result<Copied, CopyError> {
    let mut writer = Writer::open(directory, ownership)?;
    loop {
        match steps.blocking_recv() {
            Some(Some(Step::Entry(entry))) => writer.entry(entry)?,
            Some(Some(Step::Data(bytes))) => writer.data(&bytes)?,
            Some(None) => return writer.finish(),
            None => return Err(CopyError::Abandoned),
        }
    }
}

/// Not on the runtime's own threads for blocking work: those panic where the zone's limit of processes
/// is reached.
fn on_thread(work: impl FnOnce() + Send + 'static) -> Result<(), CopyError> {
    let thread = std::thread::Builder::new().name("copy".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(work).map(drop).map_err(CopyError::Thread)
}
