//! The language of scripts. A line is `[+TIME] WORD ...`; `#` begins a comment. TIME (`10ms`, `2s`) passes before the line
//! is carried out. Numbers of packets count from each end's SYN, which is 0.
//!
//! | line | |
//! |---|---|
//! | `config no-timestamps no-sack no-window-scale` `initial-rto TIME` `mtu N` | first: what the stack is like |
//! | `listen OPTION...`, `connect OPTION...` | begins; OPTION: `nagle`, `buffer N`, `max-segment N` |
//! | `accept` | the connection is there to be taken |
//! | `< PACKET` | arrives |
//! | `> PACKET` | leaves now, or exactly at the line's TIME after the last event, and nothing before it |
//! | `quiet TIME`, `ignore TIME` | nothing leaves for so long; whatever leaves does not matter |
//! | `write N`, `write N more` | N bytes; `more`: the rest of a message follows |
//! | `read N` | N bytes, and no more, are there; they are read |
//! | `end` | the peer has finished, and all is read |
//! | `flush` | what was written leaves now |
//! | `shutdown`, `close`, `abort` | ends our direction; gives the connection up; the same with a reset |
//! | `set nodelay on`, `set cork off`, `set keep-alive TIME TIME N`, `set user-timeout TIME`, `set send-buffer N` | |
//! | `open`, `sent`, `closed REASON`, `refused N` | where the connection stands; N bytes cannot be written now |
//! | `icmp CODE seq N` | "unreachable" with this code arrives about the packet with this number |
//! | `forget` | expects no more: what is under way at the end does not matter |
//!
//! PACKET: `syn fin rst psh urg`, `seq N`, `ack N`, `len N`, `win N`, `mss N`, `scale N`, `sackok`, `ts VALUE ECHO`,
//! `sack FROM TO`, `port N` (of the peer). What leaves is compared in flags, numbers and length; in the rest only where the
//! line says so. `psh` too is compared only where it is said, or `nopsh`.

use braid::base::time::Duration;

/// A packet as a line says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    pub urg: bool,
    pub psh: Option<bool>,
    pub seq: u32,
    pub ack: Option<u32>,
    pub len: usize,
    pub win: Option<u16>,
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    pub sackok: bool,
    pub ts: Option<(u32, u32)>,
    pub sack: Vec<(u32, u32)>,
    pub port: Option<u16>,
}

/// A setting that changes while the connection runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    NoDelay(bool),
    Cork(bool),
    KeepAlive(Duration, Duration, u32),
    UserTimeout(Duration),
    SendBuffer(u32),
}

/// How a connection begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    pub nagle: bool,
    pub buffer: Option<u32>,
    pub max_segment: Option<u16>,
}

/// What the stack is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub no_timestamps: bool,
    pub no_sack: bool,
    pub no_window_scale: bool,
    pub initial_rto: Option<Duration>,
    pub mtu: Option<u16>,
}

/// What a line does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Config(Config),
    Listen(Opening),
    Connect(Opening),
    Accept,
    Arrives(Said),
    Leaves(Said),
    Quiet(Duration),
    Ignore(Duration),
    Write { len: usize, more: bool },
    Read(usize),
    End,
    Shutdown,
    Close,
    Abort,
    Set(Setting),
    Flush,
    Open,
    Sent,
    Closed(String),
    Refused(usize),
    Icmp { code: u8, seq: u32 },
    Forget,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub after: Duration,
    pub action: Action,
}

/// The words of a line, taken from the front.
struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "something is missing".to_owned())
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let word = self.next()?;
        word.parse().map_err(|_| format!("{word} is no number"))
    }

    fn time(&mut self) -> Result<Duration, String> {
        time(self.next()?)
    }

    fn switch(&mut self) -> Result<bool, String> {
        match self.next()? {
            "on" => Ok(true),
            "off" => Ok(false),
            word => Err(format!("{word} is neither on nor off")),
        }
    }

    /// Does `each` for every word that is left.
    fn each(&mut self, mut each: impl FnMut(&mut Self, &str) -> Result<(), String>) -> Result<(), String> {
        while let Some(word) = self.0.next() {
            each(self, word)?;
        }
        Ok(())
    }
}

fn time(word: &str) -> Result<Duration, String> {
    let parsed = if let Some(millis) = word.strip_suffix("ms") {
        millis.parse().ok().map(Duration::from_millis)
    } else if let Some(micros) = word.strip_suffix("us") {
        micros.parse().ok().map(Duration::from_micros)
    } else {
        word.strip_suffix('s').and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs)
    };
    parsed.ok_or_else(|| format!("{word} is no time"))
}

fn unknown(word: &str) -> String {
    format!("what is {word}?")
}

/// A line of a script; `None` for an empty one.
pub fn parse(text: &str) -> Result<Option<Line>, String> {
    let text = text.split('#').next().unwrap_or_default();
    let mut words = Words(text.split_whitespace().peekable());
    let Some(first) = words.0.peek().copied() else { return Ok(None) };
    let mut after = Duration::ZERO;
    if let Some(passing) = first.strip_prefix('+') {
        after = time(passing)?;
        words.next()?;
    }
    let word = words.next()?;
    let action = match word {
        "config" => Action::Config(config(&mut words)?),
        "listen" => Action::Listen(opening(&mut words)?),
        "connect" => Action::Connect(opening(&mut words)?),
        "accept" => Action::Accept,
        "<" => Action::Arrives(packet(&mut words)?),
        ">" => Action::Leaves(packet(&mut words)?),
        "quiet" => Action::Quiet(words.time()?),
        "ignore" => Action::Ignore(words.time()?),
        "write" => {
            let len = words.number()?;
            Action::Write { len, more: words.0.next_if_eq(&"more").is_some() }
        }
        "read" => Action::Read(words.number()?),
        "end" => Action::End,
        "shutdown" => Action::Shutdown,
        "close" => Action::Close,
        "abort" => Action::Abort,
        "set" => Action::Set(setting(&mut words)?),
        "flush" => Action::Flush,
        "open" => Action::Open,
        "sent" => Action::Sent,
        "closed" => Action::Closed(words.next()?.to_owned()),
        "refused" => Action::Refused(words.number()?),
        "icmp" => {
            let code = words.number()?;
            match words.next()? {
                "seq" => Action::Icmp { code, seq: words.number()? },
                word => return Err(unknown(word)),
            }
        }
        "forget" => Action::Forget,
        word => return Err(unknown(word)),
    };
    match words.0.next() {
        None => Ok(Some(Line { after, action })),
        Some(word) => Err(unknown(word)),
    }
}

fn config(words: &mut Words<'_>) -> Result<Config, String> {
    let mut config = Config::default();
    words.each(|words, word| {
        match word {
            "no-timestamps" => config.no_timestamps = true,
            "no-sack" => config.no_sack = true,
            "no-window-scale" => config.no_window_scale = true,
            "initial-rto" => config.initial_rto = Some(words.time()?),
            "mtu" => config.mtu = Some(words.number()?),
            word => return Err(unknown(word)),
        }
        Ok(())
    })?;
    Ok(config)
}

fn opening(words: &mut Words<'_>) -> Result<Opening, String> {
    let mut opening = Opening::default();
    words.each(|words, word| {
        match word {
            "nagle" => opening.nagle = true,
            "buffer" => opening.buffer = Some(words.number()?),
            "max-segment" => opening.max_segment = Some(words.number()?),
            word => return Err(unknown(word)),
        }
        Ok(())
    })?;
    Ok(opening)
}

fn setting(words: &mut Words<'_>) -> Result<Setting, String> {
    Ok(match words.next()? {
        "nodelay" => Setting::NoDelay(words.switch()?),
        "cork" => Setting::Cork(words.switch()?),
        "keep-alive" => Setting::KeepAlive(words.time()?, words.time()?, words.number()?),
        "user-timeout" => Setting::UserTimeout(words.time()?),
        "send-buffer" => Setting::SendBuffer(words.number()?),
        word => return Err(unknown(word)),
    })
}

fn packet(words: &mut Words<'_>) -> Result<Said, String> {
    let mut said = Said::default();
    let mut has_seq = false;
    words.each(|words, word| {
        match word {
            "syn" => said.syn = true,
            "fin" => said.fin = true,
            "rst" => said.rst = true,
            "urg" => said.urg = true,
            "psh" => said.psh = Some(true),
            "nopsh" => said.psh = Some(false),
            "seq" => {
                said.seq = words.number()?;
                has_seq = true;
            }
            "ack" => said.ack = Some(words.number()?),
            "len" => said.len = words.number()?,
            "win" => said.win = Some(words.number()?),
            "mss" => said.mss = Some(words.number()?),
            "scale" => said.scale = Some(words.number()?),
            "sackok" => said.sackok = true,
            "ts" => said.ts = Some((words.number()?, words.number()?)),
            "sack" => said.sack.push((words.number()?, words.number()?)),
            "port" => said.port = Some(words.number()?),
            word => return Err(unknown(word)),
        }
        Ok(())
    })?;
    if has_seq { Ok(said) } else { Err("a packet has a seq".to_owned()) }
}

#[test]
fn lines_say_what_they_mean() {
    let line = |text| parse(text).expect("a line").expect("not empty");
    assert_eq!(parse("  # nothing"), Ok(None));
    assert_eq!(line("+10ms quiet 2s").after, Duration::from_millis(10));
    assert_eq!(line("write 5 more").action, Action::Write { len: 5, more: true });
    let Action::Arrives(said) = line("< syn fin seq 7 ack 3 len 2 sack 1 2 sack 3 4").action else {
        panic!("a packet")
    };
    assert!(said.syn && said.fin && said.ack == Some(3) && said.sack == [(1, 2), (3, 4)]);
    for wrong in
        ["+x write 1", "write", "write x", "> seq 1 what", "set cork maybe", "quiet", "accept now", "< ack 1"]
    {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
