//! Starting, stopping, signalling and freezing: what a client waits for, made of orders to the driver.

use std::sync::Arc;
use std::time::Duration;

use super::container::Container;
use super::driver::Order;
use super::error::ContainerError;
use super::registry::Containers;

/// Seconds that `stop` waits where neither request nor container say.
const STOP_SECONDS: i64 = 10;
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Containers {
    /// Begins a run; returns when the program was executed.
    ///
    /// # Errors
    /// [`ContainerError::AlreadySo`] while it runs; [`ContainerError::Start`] with the runtime's words.
    pub async fn start(&self, reference: &str) -> Result<(), ContainerError> {
        self.find(reference)?.order(Order::Start).await
    }

    /// Ends the run: `signal` (or the container's, or SIGTERM), then after `seconds` (or the container's, or 10;
    /// negative is for ever) SIGKILL. Returns when the run is over. Goes on when the caller is dropped.
    ///
    /// # Errors
    /// [`ContainerError::AlreadySo`] where it does not run.
    pub async fn stop(
        &self,
        reference: &str,
        signal: Option<i32>,
        seconds: Option<i64>,
    ) -> Result<(), ContainerError> {
        let container = self.find(reference)?;
        let containers = self.clone();
        let stopping =
            tokio::spawn(async move { containers.stop_container(&container, signal, seconds).await });
        stopping.await.unwrap_or(Err(ContainerError::GoingDown))
    }

    /// [`Containers::stop`] where it runs, then [`Containers::start`]. Goes on when the caller is dropped.
    ///
    /// # Errors
    /// As [`Containers::start`].
    pub async fn restart(
        &self,
        reference: &str,
        signal: Option<i32>,
        seconds: Option<i64>,
    ) -> Result<(), ContainerError> {
        let container = self.find(reference)?;
        let containers = self.clone();
        let restarting = tokio::spawn(async move {
            // One that removes itself when it ends shall not do so now.
            container.order(|answer| Order::Keep(true, answer)).await?;
            match containers.stop_container(&container, signal, seconds).await {
                Ok(()) | Err(ContainerError::AlreadySo) => {}
                Err(error) => {
                    container.order(|answer| Order::Keep(false, answer)).await?;
                    return Err(error);
                }
            }
            match container.order(Order::Start).await {
                // Its policy was faster.
                Ok(()) | Err(ContainerError::AlreadySo) => Ok(container),
                Err(error) => Err(error),
            }
        });
        let container = restarting.await.unwrap_or(Err(ContainerError::GoingDown))?;
        self.publish(&container, "restart", &[]);
        Ok(())
    }

    /// Sends a signal; SIGKILL waits for the end of the run.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&self, reference: &str, signal: i32) -> Result<(), ContainerError> {
        let container = self.find(reference)?;
        let ended = container.wait(super::WaitCondition::NotRunning);
        container.order(|answer| Order::Signal(signal, answer)).await?;
        if signal == SIGKILL {
            ended.await;
        }
        Ok(())
    }

    /// Freezes (`true`) or thaws every process of the container.
    ///
    /// # Errors
    /// It does not run, or is so already.
    pub async fn freeze(&self, reference: &str, frozen: bool) -> Result<(), ContainerError> {
        self.find(reference)?.order(|answer| Order::Freeze(frozen, answer)).await
    }

    /// Changes the size of the terminal, in characters.
    ///
    /// # Errors
    /// It does not run.
    pub fn resize(&self, reference: &str, rows: u16, columns: u16) -> Result<(), ContainerError> {
        let container = self.find(reference)?;
        container.resize(rows, columns)?;
        let size = [("height", rows.to_string()), ("width", columns.to_string())];
        self.publish(&container, "resize", &size);
        Ok(())
    }

    /// Publishes an event that only whoever serves the request sees happen, such as `attach`.
    pub fn told(&self, container: &Container, action: &str) {
        self.publish(container, action, &[]);
    }

    pub(super) fn publish(&self, container: &Container, action: &str, extra: &[(&str, String)]) {
        let mut attributes = container.record().attributes();
        attributes.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let subject = model::events::Subject::Container;
        self.shared.events.publish(subject, action, container.id(), attributes);
    }
}

impl Containers {
    pub(super) async fn stop_container(
        &self,
        container: &Arc<Container>,
        signal: Option<i32>,
        seconds: Option<i64>,
    ) -> Result<(), ContainerError> {
        end_run(container, signal, seconds).await?;
        // Whoever waits for the end wakes before all is told of it. One that removed itself tells nothing any more.
        if container.order(|answer| Order::Tell("stop", answer)).await.is_err() {
            self.publish(container, "stop", &[]);
        }
        Ok(())
    }
}

async fn end_run(
    container: &Arc<Container>,
    signal: Option<i32>,
    seconds: Option<i64>,
) -> Result<(), ContainerError> {
    let state = container.snapshot().state;
    if !state.is_active() {
        return Err(ContainerError::AlreadySo);
    }
    let record = container.record();
    let own = signal_number(&record.config.stop_signal);
    let signal = signal.or(own).unwrap_or(SIGTERM);
    let seconds = seconds.or(record.config.stop_timeout).unwrap_or(STOP_SECONDS);
    let ended = container.wait(super::WaitCondition::NotRunning);
    tokio::pin!(ended);
    if seconds != 0 {
        send(container, signal).await?;
        if state.running().is_some_and(|running| running.paused) {
            match container.order(|answer| Order::Freeze(false, answer)).await {
                // The signal may have thawed it.
                Ok(()) | Err(ContainerError::Conflict(_) | ContainerError::Unpause(_)) => {}
                Err(error) => return Err(error),
            }
        }
        match u64::try_from(seconds) {
            Err(_) => {
                ended.await;
                return Ok(());
            }
            Ok(seconds) => {
                if tokio::time::timeout(Duration::from_secs(seconds), ended.as_mut()).await.is_ok() {
                    return Ok(());
                }
            }
        }
    }
    send(container, SIGKILL).await?;
    ended.await;
    Ok(())
}

async fn send(container: &Container, signal: i32) -> Result<(), ContainerError> {
    match container.order(|answer| Order::Signal(signal, answer)).await {
        // It ended by itself in between.
        Err(ContainerError::Conflict(_) | ContainerError::NotFound(_)) => Ok(()),
        other => other,
    }
}

/// `SIGTERM`, `TERM`, `term` or `15`; nothing for an empty or unknown one.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN+").and_then(|n| n.parse::<i32>().ok()) {
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX-").and_then(|n| n.parse::<i32>().ok()) {
        return (0..=30).contains(&offset).then_some(64 - offset);
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// signal(7), x86 and ARM numbers.
const SIGNALS: [(&str, i32); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_are_read_as_docker_reads_them() {
        let check = |text: &str, expected: Option<i32>| assert_eq!(signal_number(text), expected, "{text}");
        check("SIGTERM", Some(15));
        check("hup", Some(1));
        check("9", Some(9));
        check("RTMIN+3", Some(37));
        check("SIGRTMAX-1", Some(63));
        check("0", None);
        check("65", None);
        check("NOPE", None);
        check("", None);
    }
}
