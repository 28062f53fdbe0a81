//! Carries lines both ways, over as many connections as it takes.
//!
//! Two threads. One reads the client and writes to the daemon; the other reads the daemon, writes
//! to the client, and makes the connection again. So reading and writing never wait for each
//! other, and a line costs one read and one write. A line that cannot go now is held, up to a
//! bound; then the client is not read.

use std::{
    fs::File,
    io::{self, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    process::exit,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    books::{Books, Heard, Told},
    envelope::{Envelope, Kind, error},
    find,
    lines::{Line, Lines},
    os::Patient,
};

/// How long a daemon that has gone may take to come back.
const RETURN: Duration = Duration::from_secs(30);
/// Between two attempts: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Connections in a row that end without a word.
const BARREN: u32 = 5;
/// After the end of the input: how long answers may still take. The daemon gives them 2 s.
const LAST: Duration = Duration::from_secs(10);
const STACK: usize = 256 << 10;

pub struct Way {
    pub places: Vec<PathBuf>,
    pub preface: Vec<u8>,
}

struct Bridge {
    state: Mutex<State>,
    changed: Condvar,
    client: Mutex<Patient>,
}

struct State {
    books: Books,
    stream: Option<Arc<UnixStream>>,
    /// Of the connection; what was written to an older one is lost.
    generation: u64,
    /// How the last one ended.
    unread: bool,
    /// No more requests here.
    closing: bool,
    /// The client has nothing more to say.
    eof: bool,
}

/// Ends with the process.
pub fn carry(first: UnixStream, way: Way) -> ! {
    let file = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().map(|fd| Patient(File::from(fd)));
    let (Ok(input), Ok(output)) = (file(&io::stdin()), file(&io::stdout())) else {
        eprintln!("mcp-gateway-stdio: stdin or stdout is closed");
        exit(64);
    };
    let bridge = Arc::new(Bridge {
        state: Mutex::new(State {
            books: Books::default(),
            stream: None,
            generation: 0,
            unread: false,
            closing: false,
            eof: false,
        }),
        changed: Condvar::new(),
        client: Mutex::new(output),
    });
    let stream = Some(bridge.begin(first, &way));
    let twin = Arc::clone(&bridge);
    let listening =
        thread::Builder::new().stack_size(STACK).spawn(move || twin.listen(stream, &way));
    if let Err(error) = listening {
        eprintln!("mcp-gateway-stdio: {error}");
        exit(71);
    }
    bridge.talk(input);
    let mut state = bridge.lock();
    state.eof = true;
    if let Some(stream) = &state.stream {
        let _ = stream.shutdown(Shutdown::Write);
    }
    bridge.changed.notify_all();
    let until = Instant::now() + LAST;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        // The other thread ends the process when the daemon has said everything.
        let waited = bridge.changed.wait_timeout(state, left);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    exit(0);
}

impl Bridge {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whole lines to the client. Without a client there is nothing to do.
    fn say(&self, lines: &[u8]) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.write_all(lines).is_err() {
            exit(0);
        }
    }

    fn say_all(&self, lines: &[Vec<u8>]) {
        for line in lines {
            self.say(line);
        }
    }

    /// From the client to the daemon, until the end of the input.
    fn talk(&self, input: Patient) {
        let mut lines = Lines::new(input);
        loop {
            match lines.next() {
                Ok(Line::Whole(line)) if line.trim_ascii().is_empty() => {}
                Ok(Line::Whole(line)) => self.tell(line),
                Ok(Line::TooLong) => self.say(&error(b"null", "this message is too long")),
                Ok(Line::End) | Err(_) => return,
            }
        }
    }

    fn tell(&self, line: &[u8]) {
        let mut state = self.lock();
        let requests = match state.books.client_said(line) {
            Told::Pass(requests) => requests,
            Told::Late => return,
        };
        loop {
            let held = !requests.is_empty() && (state.closing || state.books.has_waiting());
            let free = state.stream.clone().filter(|_| !held);
            let Some(stream) = free else {
                if state.books.has_room() {
                    state.books.hold(line, &requests);
                    self.changed.notify_all();
                    return;
                }
                state = self.wait(state);
                continue;
            };
            let generation = state.generation;
            drop(state);
            let written = (&*stream).write_all(line);
            state = self.lock();
            if written.is_err() {
                // The newline is a line's last byte, so this one was not read.
                let _ = stream.shutdown(Shutdown::Both);
                if Envelope::read(line).kind() == Kind::Response {
                    return;
                }
                while state.generation == generation && state.stream.is_some() {
                    state = self.wait(state);
                }
                continue;
            }
            if state.generation == generation && state.stream.is_some() {
                state.books.sent(&requests);
            } else {
                let unread = state.unread;
                let said = state.books.cut_off(&requests, unread);
                self.changed.notify_all();
                drop(state);
                self.say_all(&said);
            }
            return;
        }
    }

    /// From the daemon to the client, over one connection after another.
    fn listen(&self, first: Option<Arc<UnixStream>>, way: &Way) {
        let mut current = first;
        let mut barren = 0;
        loop {
            let mut refused = None;
            if let Some(stream) = current.take() {
                let end = self.hear(&stream);
                let _ = stream.shutdown(Shutdown::Both);
                barren = if end.silent { barren + 1 } else { 0 };
                let said = self.lose(end.unread);
                self.say_all(&said);
                refused = end.refused;
            }
            if let Some(why) = refused {
                eprintln!("mcp-gateway-stdio: {why}");
                self.give_up(&why);
                if self.lock().generation == 1 {
                    exit(77);
                }
            }
            self.wanted();
            let connected = if barren < BARREN {
                thread::sleep(PAUSE.0 * barren * barren);
                self.connect(way)
            } else {
                barren = 0;
                Err("the gateway ends every connection without a word".to_owned())
            };
            match connected {
                Ok(stream) => current = Some(stream),
                Err(why) => {
                    eprintln!("mcp-gateway-stdio: {why}");
                    self.give_up(&why);
                }
            }
        }
    }

    fn lose(&self, unread: bool) -> Vec<Vec<u8>> {
        let mut state = self.lock();
        state.stream = None;
        state.unread = unread;
        state.closing = false;
        let said = state.books.lost(unread);
        self.changed.notify_all();
        said
    }

    fn give_up(&self, why: &str) {
        let said = self.lock().books.give_up(why);
        self.changed.notify_all();
        self.say_all(&said);
    }

    /// Waits until there is something to connect for. The end of the input, with nothing held, is
    /// our end.
    fn wanted(&self) {
        let mut state = self.lock();
        while !state.books.wants_connection(state.unread)
            || (state.eof && !state.books.has_waiting())
        {
            if state.eof {
                exit(0);
            }
            state = self.wait(state);
        }
    }

    /// Tries again for a while: a daemon is being replaced.
    fn connect(&self, way: &Way) -> Result<Arc<UnixStream>, String> {
        let until = Instant::now() + RETURN;
        let mut pause = PAUSE.0;
        loop {
            let failure = match find::connect(&way.places) {
                Ok(stream) => return Ok(self.begin(stream, way)),
                Err(failure) if !failure.passes() => return Err(failure.to_string()),
                Err(failure) => failure.to_string(),
            };
            if Instant::now() + pause > until {
                return Err(failure);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// The preface, the handshake again, what waits; then the connection is open to all.
    fn begin(&self, stream: UnixStream, way: &Way) -> Arc<UnixStream> {
        let stream = Arc::new(stream);
        let mut state = self.lock();
        let mut said = way.preface.clone();
        said.extend(state.books.replay());
        state.generation += 1;
        state.stream = Some(Arc::clone(&stream));
        // What fails here shows as the connection's end.
        let _ = (&*stream).write_all(&said);
        if state.eof {
            let _ = stream.shutdown(Shutdown::Write);
        }
        self.changed.notify_all();
        stream
    }

    fn hear(&self, stream: &UnixStream) -> End {
        let mut lines = Lines::new(stream);
        let mut end = End { unread: false, refused: None, silent: true };
        while let Ok(Line::Whole(line)) = lines.next() {
            end.silent = false;
            // Nothing but a message that is ours is worth a lock for longer than this.
            let heard = self.lock().books.gateway_said(line);
            match heard {
                Heard::Pass => self.say(line),
                Heard::Ours => {}
                Heard::Instead(said) => self.say_all(&said),
                Heard::Idle => {
                    end.unread = true;
                    return end;
                }
                Heard::Closing => self.lock().closing = true,
                Heard::Refused(why) => {
                    end.refused = Some(why);
                    return end;
                }
            }
        }
        end
    }
}

struct End {
    /// What was not answered was not read.
    unread: bool,
    refused: Option<String>,
    /// Not one line was said.
    silent: bool,
}
