//! The handle of one container: what everybody may read, and the way to its driver.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::{mpsc, oneshot, watch};

use super::driver::Order;
use super::error::ContainerError;
use super::record::Record;
use super::state::{Snapshot, State};
use process::log::{LogPlace, Rules, Subject, attributes};
use process::{Chunk, Console, Hub, PumpPlace};

/// One container. Cheap to share; the driver behind it is the only writer.
#[derive(Debug)]
pub struct Container {
    id: String,
    pub(super) record: RwLock<Arc<Record>>,
    pub(super) snapshot: watch::Sender<Snapshot>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) hub: Arc<Hub>,
    pub(super) appended: Arc<watch::Sender<u64>>,
    log_turns: Arc<Mutex<u64>>,
    pub(super) execs: Mutex<Vec<String>>,
    pub(super) idle: super::files::Idle,
    /// Standard input and terminal of whichever run is going on.
    pub console: Console,
    /// Folder of everything on disk that is this container's.
    pub folder: PathBuf,
}

impl Container {
    pub(super) fn new(
        record: Record,
        state: State,
        folder: PathBuf,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Container {
        let snapshot = Snapshot { state, exits: 0, last_exit: 0 };
        Container {
            id: record.id.clone(),
            record: RwLock::new(Arc::new(record)),
            snapshot: watch::Sender::new(snapshot),
            orders,
            hub: Arc::default(),
            appended: Arc::new(watch::Sender::new(0)),
            log_turns: Arc::default(),
            execs: Mutex::new(Vec::new()),
            idle: super::files::Idle::default(),
            console: Console::default(),
            folder,
        }
    }

    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The present record.
    pub fn record(&self) -> Arc<Record> {
        self.record.read().expect("no writer of a record panics").clone()
    }

    /// The present state.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// The states from now on.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.subscribe()
    }

    /// All output from now until the end of the run that goes on or comes next.
    pub fn subscribe(&self) -> mpsc::Receiver<Chunk> {
        self.hub.subscribe()
    }

    /// Where clients are told the log is; `None` where the driver keeps none or keeps its place to itself.
    pub fn log_path(&self) -> Option<PathBuf> {
        (self.record().host.log_driver == "json-file").then(|| self.json_log())
    }

    fn json_log(&self) -> PathBuf {
        self.folder.join(format!("{}-json.log", self.id))
    }

    /// The log; `None` where the driver keeps none.
    pub(super) fn log_place(&self) -> Option<LogPlace> {
        let record = self.record();
        let (host, config) = (&record.host, &record.config);
        let path = match host.log_driver.as_str() {
            "json-file" => self.json_log(),
            "local" => self.folder.join("container.log"),
            _ => return None,
        };
        let subject = Subject {
            id: &self.id,
            name: &record.name,
            image_id: &record.image_id,
            image: &config.image,
            labels: &config.labels,
            env: &config.env,
        };
        Some(LogPlace {
            path,
            // What create has let pass can be read.
            rules: Rules::read(&host.log_driver, &host.log_options).unwrap_or_default(),
            attributes: attributes(&host.log_options, &subject),
            turns: self.log_turns.clone(),
        })
    }

    /// Ids of the further processes that run.
    pub fn exec_ids(&self) -> Vec<String> {
        self.execs.lock().expect("no holder of the exec ids panics").clone()
    }

    /// Changes the size of the terminal, in characters.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn resize(&self, rows: u16, columns: u16) -> Result<(), ContainerError> {
        let state = self.snapshot().state;
        super::legality::permit(&state, super::legality::Verb::Resize, &self.id)?;
        let resized = self.console.resize(rows, columns);
        resized.map(drop).map_err(ContainerError::machine("resize the terminal"))
    }

    pub(super) fn pump_place(&self, spools: PathBuf) -> PumpPlace {
        PumpPlace {
            spools,
            id: self.id.clone(),
            log: self.log_place(),
            hub: self.hub.clone(),
            appended: self.appended.clone(),
        }
    }

    /// Gives the driver an order and waits for its answer.
    pub(super) async fn order<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, ContainerError>>) -> Order,
    ) -> Result<T, ContainerError> {
        let (answer, answered) = oneshot::channel();
        let gone = || ContainerError::NotFound(self.id.clone());
        self.orders.send(make(answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
