//! The committer: one thread that owns all writing and lets writes that wait together share one fdatasync.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Builder, Database, WriteTransaction};
use rustix::fs::{FallocateFlags, fallocate};

use super::held_back::HeldBack;
use super::{Durability, Reader, StoreError, Writer, schema};

/// Pages redb keeps in memory, bytes. The whole database of a busy appliance is a few megabytes.
const CACHE: usize = 2 << 20;
/// Most writes that share one transaction; also how many may wait before submitting blocks.
const GROUP: usize = 256;
/// Disk space that is kept for the database, bytes.
const RESERVE: u64 = 8 << 20;
/// How long a write may stay without being durable.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Told whether the transaction was committed; answers the caller.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Runs the caller's closure on the transaction, or learns why there is none.
type Apply = Box<dyn FnOnce(Result<&WriteTransaction, StoreError>) -> Answer + Send>;

/// What enters the committer's queue.
enum Entry {
    Write(Job),
    /// Commit what waits, close the file, and say so.
    Close(SyncSender<Result<(), StoreError>>),
}

struct Job {
    durability: Durability,
    since: Instant,
    apply: Apply,
}

impl Job {
    /// When it is to be committed, if nothing takes it along before.
    fn due(&self) -> Instant {
        match self.durability {
            Durability::Within(time) => self.since + time,
            Durability::Synced | Durability::Soon => self.since,
        }
    }
}

/// The database behind its lock: taken for writing only to open the file anew after a failure.
struct Shared {
    path: PathBuf,
    database: RwLock<Option<Database>>,
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    queue: Option<SyncSender<Entry>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(path: &Path) -> Result<Committer, StoreError> {
        let database = RwLock::new(Some(open(path)?));
        let shared = Arc::new(Shared { path: path.to_owned(), database });
        let (sender, queue) = sync_channel(GROUP);
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .stack_size(512 << 10)
            .spawn(move || worker.run(&queue))
            .map_err(|error| StoreError::Thread(Arc::new(error)))?;
        Ok(Committer { shared, queue: Some(sender), thread: Some(thread) })
    }

    pub(super) fn read<T>(
        &self,
        f: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let reader = {
            let guard = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
            Reader::begin(guard.as_ref().ok_or(StoreError::Closed)?)?
        };
        f(&reader)
    }

    /// Queues a write; `answer` is called from the committer's thread.
    pub(super) fn submit<T, E>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Writer<'_>) -> Result<T, E> + Send + 'static,
        answer: impl FnOnce(Result<T, E>) + Send + 'static,
    ) -> Result<(), StoreError>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let apply: Apply = Box::new(move |transaction| {
            let result = transaction.map_err(E::from).and_then(|transaction| {
                let mut writer = Writer::begin(transaction);
                let value = f(&mut writer)?;
                writer.apply()?;
                Ok(value)
            });
            Box::new(move |committed| answer(result.and_then(|value| Ok(committed.map(|()| value)?))))
        });
        self.enter(Entry::Write(Job { durability, since: Instant::now(), apply }))
    }

    /// Commits what waits, and ends the file as one that was closed well. Blocks.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        let (answer, answered) = sync_channel(1);
        self.enter(Entry::Close(answer))?;
        answered.recv().map_err(|_| StoreError::Closed)?
    }

    fn enter(&self, entry: Entry) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(entry).map_err(|_| StoreError::Closed)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // The thread ends when its queue does, and closing redb makes everything durable.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn run(&self, queue: &Receiver<Entry>) {
        let mut waiting: Vec<Job> = Vec::new();
        // When what was committed without being durable has to be.
        let mut unsynced: Option<Instant> = None;
        loop {
            let due = waiting.iter().map(Job::due).chain(unsynced).min();
            match next(queue, due) {
                Ok(Entry::Write(job)) => waiting.push(job),
                Ok(Entry::Close(answer)) => return self.finish(waiting, Some(answer)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(waiting, None),
            }
            let closing = gather(queue, &mut waiting);
            let now = Instant::now();
            let pressing = |job: &Job| job.due() <= now;
            if waiting.len() >= GROUP
                || waiting.iter().any(pressing)
                || unsynced.is_some_and(|due| due <= now)
            {
                let is_soon = self.commit(std::mem::take(&mut waiting));
                unsynced = is_soon.then(|| unsynced.unwrap_or(now + SOON));
            }
            if closing.is_some() {
                return self.finish(waiting, closing);
            }
        }
    }

    /// The last commit, and the end of the file. Who comes later is told that the store is closed.
    fn finish(&self, waiting: Vec<Job>, closing: Option<SyncSender<Result<(), StoreError>>>) {
        // Without a job it makes durable what is not.
        self.commit(waiting);
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let closed = database.map_or(Ok(()), Database::close).map_err(StoreError::storage);
        if let Some(answer) = closing {
            // Nobody listens any more where the caller has gone.
            drop(answer.send(closed));
        }
    }

    /// Commits a group and answers its writers; whether something still waits for durability. A group without
    /// a job is the timer's: it makes durable what waits.
    fn commit(&self, group: Vec<Job>) -> bool {
        let synced = group.is_empty() || group.iter().any(|job| job.durability != Durability::Soon);
        let mut answers = Vec::with_capacity(group.len());
        let result = self.transact(group, synced, &mut answers);
        if result.is_err() {
            // Opening may fail for the same reason, and is tried again by the next group.
            self.renew();
        }
        answers.into_iter().for_each(|answer| answer(result.clone()));
        !synced && result.is_ok()
    }

    fn transact(&self, group: Vec<Job>, synced: bool, answers: &mut Vec<Answer>) -> Result<(), StoreError> {
        let opened = self.open_again();
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match opened.and_then(|()| begin(guard.as_ref(), synced)) {
            Ok(transaction) => {
                answers.extend(group.into_iter().map(|job| (job.apply)(Ok(&transaction))));
                transaction.commit().map_err(StoreError::storage)
            }
            Err(error) => {
                answers.extend(group.into_iter().map(|job| (job.apply)(Err(error.clone()))));
                Err(error)
            }
        }
    }

    /// redb refuses everything after a failed read or write (a full disk, say) until the file is opened anew.
    /// What was committed without being durable is gone then.
    fn renew(&self) {
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
        if let Ok(database) = open(&self.path) {
            *guard = Some(database);
        }
    }

    fn open_again(&self) -> Result<(), StoreError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let database = open(&self.path)?;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(())
    }
}

/// Takes along what has come meanwhile, up to the most of a group or the wish to close.
fn gather(queue: &Receiver<Entry>, waiting: &mut Vec<Job>) -> Option<SyncSender<Result<(), StoreError>>> {
    while waiting.len() < GROUP {
        match queue.try_recv() {
            Ok(Entry::Write(job)) => waiting.push(job),
            Ok(Entry::Close(answer)) => return Some(answer),
            Err(_) => return None,
        }
    }
    None
}

/// The next entry, or a timeout when `due` comes first.
fn next(queue: &Receiver<Entry>, due: Option<Instant>) -> Result<Entry, RecvTimeoutError> {
    match due {
        Some(due) => queue.recv_timeout(due.saturating_duration_since(Instant::now())),
        None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

fn begin(database: Option<&Database>, synced: bool) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.ok_or(StoreError::Closed)?.begin_write().map_err(StoreError::storage)?;
    let durability = if synced { redb::Durability::Immediate } else { redb::Durability::None };
    transaction.set_durability(durability).map_err(StoreError::storage)?;
    Ok(transaction)
}

/// Opens the file, or makes it, and brings its rows to today's schema. A disk of a later schema is not written to.
///
/// After an unclean end redb goes through the checksums of all pages by itself, and falls back to the commit before
/// where the last one was not whole. After a clean end nothing is read that nobody asks for: a page that was spoilt
/// since then ends the engine when it is used, and that is the unclean end after which the next start looks at all.
fn open(path: &Path) -> Result<Database, StoreError> {
    let failed = |source: io::Error| StoreError::File { path: path.to_owned(), source: Arc::new(source) };
    let unusable = |source: redb::Error| StoreError::Open { path: path.to_owned(), source: Arc::new(source) };
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
    let backend = HeldBack::new(file.map_err(failed)?).map_err(unusable)?;
    let opened = Builder::new().set_cache_size(CACHE).create_with_backend(backend.clone());
    let database = opened.map_err(|error| unusable(error.into()))?;
    let found = schema::find(&database)?;
    if let Err(error) = reserve(path) {
        tracing::debug!("no disk space is kept for {}: {error}", path.display());
    }
    backend.release().map_err(failed)?;
    if found != schema::Found::Version(schema::VERSION) {
        schema::migrate(&database, found, path.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(database)
}

/// Takes disk space for the database beforehand, beyond its present end: on a full disk containers and images
/// must still be removable, and a removal is a write. It also makes a synced write an order of magnitude cheaper on
/// ext4: fdatasync(2) then finds no new blocks or length that the journal must commit first.
fn reserve(path: &Path) -> io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    let wanted = file.metadata()?.len().saturating_mul(2).max(RESERVE);
    Ok(fallocate(&file, FallocateFlags::KEEP_SIZE, 0, wanted)?)
}
