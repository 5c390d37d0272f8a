//! The line against guests of every kind: of this release, of the first, mute, hostile.

use super::*;
use contract::line::{LINE_MAX, REQUESTS};
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

/// Hands out one end of each connection to a guest that is a closure over the other.
struct Guests(Mutex<Vec<UnixStream>>);

impl Link for Guests {
    fn dial(&self, port: Port) -> BoxFuture<'_, io::Result<Stream>> {
        assert_eq!(port, Port::Control);
        let next = self.0.lock().unwrap().pop();
        async move { next.map(Stream::from).ok_or_else(|| io::ErrorKind::ConnectionRefused.into()) }.boxed()
    }
}

/// A line to a guest that answers each line of the host with what `answer` says to it; the lines that it heard.
fn line_to(
    welcome: Welcome,
    answer: impl Fn(&str) -> String + Send + 'static,
) -> (Line, mpsc::Receiver<Event>, mpsc::UnboundedReceiver<String>) {
    let (near, far) = UnixStream::pair().unwrap();
    let (line, events) = Line::begin(Arc::new(Guests(Mutex::new(vec![near]))), welcome);
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (read, mut write) = tokio::io::split(far);
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let said = answer(&line);
            let _ = tell.send(line);
            if write.write_all(said.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    (line, events, heard)
}

fn welcome(clock: bool) -> Welcome {
    Welcome { clock, config: Config::default() }
}

/// That of a guest without a configuration.
fn hello() -> String {
    let takes: Vec<_> = REQUESTS.iter().copied().filter(|word| *word != "config").collect();
    Hello::ours(&takes).encode()
}

#[tokio::test]
async fn the_time_is_told_first_and_answers_find_their_requests() {
    let (line, mut events, mut heard) =
        line_to(welcome(true), |line| match line.split(' ').collect::<Vec<_>>()[..] {
            ["hello", ..] => hello(),
            [number, "clock", _] => format!("{number} offset -5\n"),
            [number, "config", "13"] => format!("{number} ok\n"),
            [number, "status"] => {
                format!("99 ok\nevent engine-died signal 9\nevent swim\n{number} error busy\n")
            }
            _ => "nonsense\n".to_owned(),
        });
    line.welcomed().await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), "hello 2 gave-up engine-died read-only");
    assert!(heard.recv().await.unwrap().starts_with("1 clock 1"));
    let answer = line.ask(Request::Status).await.unwrap();
    assert_eq!(answer, Answer::Refused { text: "busy".into() });
    assert_eq!(events.recv().await, Some(Event::EngineDied { how: "signal 9".into() }));
}

#[tokio::test]
async fn a_guest_of_the_first_version_is_spoken_to_in_its_way() {
    let (line, _events, mut heard) = line_to(welcome(true), |line| match line {
        "power-off" => "ok\n".to_owned(),
        line if line.starts_with("clock ") => "ok\n".to_owned(),
        _ => "error unknown request\n".to_owned(),
    });
    line.welcomed().await.unwrap();
    assert_eq!(line.ask(Request::PowerOff { seconds: Some(9) }).await.unwrap(), Answer::Done);
    heard.recv().await.unwrap();
    assert!(heard.recv().await.unwrap().starts_with("clock "));
    assert_eq!(heard.recv().await.unwrap(), "power-off");
}

#[tokio::test]
async fn a_guest_that_cannot_have_its_configuration_is_unfit() {
    let config = Config { userns_remap: Some(100_000), ..Config::default() };
    let unfit = Welcome { clock: false, config };
    let (line, ..) = line_to(unfit.clone(), |_| hello());
    let why = line.welcomed().await.unwrap_err();
    assert_eq!(why, "the guest does not know config: it is of another release");
    assert!(!line.was_welcomed());
    let (line, ..) = line_to(unfit, |line| match line.split(' ').collect::<Vec<_>>()[..] {
        ["hello", ..] => Hello::ours(REQUESTS).encode(),
        [number, "config", _] => format!("{number} error this boot has another already\n"),
        _ => String::new(),
    });
    assert_eq!(line.welcomed().await.unwrap_err(), "this boot has another already");
}

#[tokio::test]
async fn what_the_guest_does_not_take_is_not_sent() {
    let (line, _events, mut heard) = line_to(welcome(false), |_| "hello 3 status later\n".to_owned());
    line.welcomed().await.unwrap();
    let error = line.ask(Request::PowerOff { seconds: None }).await.unwrap_err();
    assert_eq!(error.to_string(), "the guest does not know power-off: it is of another release");
    heard.recv().await.unwrap();
    assert!(heard.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_mute_guest_has_its_time_and_a_flood_ends_the_line() {
    let (line, ..) =
        line_to(welcome(false), |line| if line.starts_with("hello") { hello() } else { String::new() });
    line.welcomed().await.unwrap();
    assert!(matches!(line.ask(Request::Status).await, Err(LineError::Mute)));
    let (line, mut events, _) = line_to(welcome(false), |line| match line.starts_with("hello") {
        true => hello() + &"event engine-died x\n".repeat(1000),
        false => "x".repeat(LINE_MAX * 2),
    });
    line.welcomed().await.unwrap();
    assert!(matches!(line.ask(Request::Status).await, Err(LineError::Broken(_))));
    let mut told = 0;
    while events.try_recv().is_ok() {
        told += 1;
    }
    assert_eq!(told, EVENTS_WAITING);
}

#[tokio::test(start_paused = true)]
async fn a_broken_line_is_dialled_again() {
    let (first, second) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let (line, _events) = Line::begin(Arc::new(Guests(Mutex::new(vec![second.0, first.0]))), welcome(false));
    let serve = async |mut far: UnixStream| {
        far.write_all(hello().as_bytes()).await.unwrap();
        BufReader::new(far)
    };
    drop(serve(first.1).await);
    let mut again = serve(second.1).await;
    let mut text = String::new();
    again.read_line(&mut text).await.unwrap();
    let asked = async { line.ask(Request::Status).await };
    let answered = async {
        text.clear();
        again.read_line(&mut text).await.unwrap();
        assert_eq!(text, "1 status\n");
        again.get_mut().write_all(b"1 ok\n").await.unwrap();
    };
    let (answer, ()) = tokio::join!(asked, answered);
    assert_eq!(answer.unwrap(), Answer::Done);
}
