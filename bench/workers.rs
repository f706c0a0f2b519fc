//! What more workers give, and what they cost: goodput of one connection and of many by the number of workers at each end
//! and of the queues of the NICs, and whether frames reach the worker that their connection belongs to.
//!
//! `cargo bench --bench workers -- [--workers 1,2] [--paths N] [--streams N] [--rounds N] [--seconds N] [--json FILE]`, as root, on a
//! quiet machine. Each round measures everything once, one after the other. Without `--workers`: 1, 2, and of 4 and 8 what the
//! machine has two cores each for. One path, unless more are asked for: then connections have a subflow on each. To measure on a machine where nothing is built, take along this program and braid, and say
//! with BRAID where that one is.

#[path = "common/mod.rs"]
mod common;
#[path = "common/transfer.rs"]
mod transfer;
#[path = "workers/watch.rs"]
mod watch;

use braid::lab::{Lab, LabOptions, nic};
use common::{Outcome, Spread, machine, write_json};
use serde_json::{Value, json};
use std::fmt;
use transfer::{CORES_TO_PIN, IDLE_SPELL_US, Transfer, cores};
use watch::Ends;

/// Those that are measured without being asked for, where the machine has cores for them.
const WORKERS: [u16; 4] = [1, 2, 4, 8];
/// So many workers are always measured.
const WORKERS_ALWAYS: u16 = 2;
struct Settings {
    workers: Vec<u16>,
    paths: u8,
    streams: u16,
    rounds: usize,
    seconds: u64,
    json: Option<String>,
}

/// Who has how many workers, over NICs with how many queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    client: u16,
    server: u16,
    queues: u16,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { client, server, queues } = self;
        write!(f, "{client} to {server} workers, {queues} queues")
    }
}

/// What is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    OneConnection,
    Many,
    /// The server sends.
    ManyReversed,
}

impl Load {
    const ALL: [Load; 3] = [Load::OneConnection, Load::Many, Load::ManyReversed];

    fn name(self) -> &'static str {
        match self {
            Load::OneConnection => "one connection",
            Load::Many => "many connections",
            Load::ManyReversed => "many connections, the server sends",
        }
    }
}

/// What came of a load in all rounds.
#[derive(Debug, Default)]
struct Found {
    /// Received bits a second.
    rates: Vec<f64>,
    ends: Ends,
}

/// A case, and what came of each of [`Load::ALL`].
struct Row {
    case: Case,
    found: [Found; Load::ALL.len()],
}

fn main() -> Outcome<()> {
    let settings = settings(&common::arguments())?;
    let cores = cores();
    let cases = cases(&settings.workers);
    let mut queues: Vec<u16> = cases.iter().map(|case| case.queues).collect();
    queues.sort_unstable();
    queues.dedup();
    let mut labs = Vec::new();
    for queues in queues {
        let options = LabOptions { paths: settings.paths, queues, ..LabOptions::default() };
        labs.push((queues, Lab::up(&format!("wk{queues}-{}", std::process::id()), &options)?));
    }
    let mut rows: Vec<Row> = cases.into_iter().map(|case| Row { case, found: Default::default() }).collect();
    for round in 0..settings.rounds {
        eprintln!("round {} of {}", round + 1, settings.rounds);
        for Row { case, found } in &mut rows {
            let lab = labs.iter().find(|(queues, _)| *queues == case.queues).ok_or("no lab")?;
            for (load, found) in Load::ALL.into_iter().zip(found) {
                let (rate, ends) = measure(&lab.1, *case, load, &settings, &cores)?;
                eprintln!("  {case}, {}: {:.0} Mbit/s", load.name(), rate / 1e6);
                found.rates.push(rate);
                found.ends.add(&ends);
            }
        }
    }
    report(&rows, &settings, cores.len())
}

fn settings(arguments: &[String]) -> Outcome<Settings> {
    let mut settings =
        Settings { workers: Vec::new(), paths: 1, streams: 16, rounds: 5, seconds: 5, json: None };
    let known = "--workers N,N..., --paths N, --streams N, --rounds N, --seconds N, --json FILE";
    common::options(arguments, known, |word, value| {
        match word {
            "--workers" => settings.workers = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--paths" => settings.paths = value.parse()?,
            "--streams" => settings.streams = value.parse()?,
            "--rounds" => settings.rounds = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--json" => settings.json = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if settings.rounds == 0 || settings.seconds == 0 || settings.streams == 0 || settings.workers.contains(&0)
    {
        return Err("at least one round of one second, one stream and one worker".into());
    }
    if settings.workers.is_empty() {
        let room = cores().len() / 2;
        let fits = |workers: &u16| *workers <= WORKERS_ALWAYS || usize::from(*workers) <= room;
        settings.workers.extend(WORKERS.into_iter().filter(fits));
    }
    Ok(settings)
}

/// For each number of workers: at both ends, and at one of them, with one queue, and with one for each.
fn cases(workers: &[u16]) -> Vec<Case> {
    // What all are compared with comes first.
    let mut cases = vec![Case { client: 1, server: 1, queues: 1 }];
    for &count in workers {
        for queues in [1, count] {
            for (client, server) in [(count, count), (count, 1), (1, count)] {
                let case = Case { client, server, queues };
                if !cases.contains(&case) {
                    cases.push(case);
                }
            }
        }
    }
    cases
}

/// Received bits a second, and what the workers of both ends have seen.
fn measure(lab: &Lab, case: Case, load: Load, settings: &Settings, cores: &[usize]) -> Outcome<(f64, Ends)> {
    let Case { client, server, queues: _ } = case;
    let counts = [client, server].map(|count| count.to_string());
    // Without being told both ends would take the same cores: neither knows of the other.
    let (total, first) = (usize::from(client + server), usize::from(client));
    let is_pinned = cores.len() >= total.max(CORES_TO_PIN);
    let list = |cores: &[usize]| cores.iter().map(|core| core.to_string()).collect::<Vec<String>>().join(",");
    let lists =
        if is_pinned { [list(&cores[..first]), list(&cores[first..total])] } else { Default::default() };
    let nics: Vec<String> = (1..=settings.paths).map(nic).collect();
    let options = |end: usize| {
        let mut options = vec!["--workers", &counts[end]];
        nics.iter().for_each(|nic| options.extend(["--nic", nic]));
        if is_pinned {
            options.extend(["--cores", &lists[end], "--idle-spell", IDLE_SPELL_US]);
        }
        options
    };
    let (mut client, server) = (options(0), options(1));
    let streams = settings.streams.to_string();
    match load {
        Load::OneConnection => {}
        Load::Many => client.extend(["-P", &streams]),
        Load::ManyReversed => client.extend(["-R", "-P", &streams]),
    }
    Transfer { lab, seconds: settings.seconds, client, server }
        .run(|client, server| watch::look(client, server, settings.seconds))
}

impl Row {
    fn spread(&self, load: usize) -> Spread {
        Spread::of(&self.found[load].rates)
    }

    /// Of all loads together.
    fn ends(&self) -> Ends {
        let mut all = Ends::default();
        self.found.iter().for_each(|found| all.add(&found.ends));
        all
    }

    fn document(&self, base: &Row) -> Value {
        let Case { client, server, queues } = self.case;
        let loads = Load::ALL.into_iter().zip(&self.found).enumerate().map(|(place, (load, found))| {
            let Spread { median, least, most } = self.spread(place);
            json!({
                "load": load.name(), "median_mbit_per_s": median / 1e6, "least_mbit_per_s": least / 1e6,
                "most_mbit_per_s": most / 1e6, "ratio": median / base.spread(place).median,
                "client": found.ends.client.document(), "server": found.ends.server.document(),
            })
        });
        json!({
            "client_workers": client, "server_workers": server, "queues": queues, "loads": loads.collect::<Vec<_>>(),
        })
    }
}

fn report(rows: &[Row], settings: &Settings, cores: usize) -> Outcome<()> {
    let base = rows.first().ok_or("nothing was measured")?;
    println!(
        "\n{:<13} {:>6}  {:<27} {:<27} {:<27} {:>15} {:>6}",
        "workers", "queues", "one connection", "many", "many, server sends", "as guest", "stray"
    );
    for row in rows {
        let Case { client, server, queues } = row.case;
        let goodput = |load: usize| {
            let Spread { median, least, most } = row.spread(load);
            let ratio = median / base.spread(load).median;
            format!("{:.0} ({:.0}-{:.0}) {ratio:.2}", median / 1e6, least / 1e6, most / 1e6)
        };
        let ends = row.ends();
        let guests = [&ends.client, &ends.server].map(|end| format!("{:.1}%", end.guest_share() * 100.0));
        println!(
            "{:<13} {queues:>6}  {:<27} {:<27} {:<27} {:>15} {:>6}",
            format!("{client} to {server}"),
            goodput(0),
            goodput(1),
            goodput(2),
            guests.join(" "),
            ends.client.strays() + ends.server.strays(),
        );
    }
    println!(
        "\nWorkers: of the client, of the server. Goodput in Mbit/s, medians, least and most, and the ratio to one worker; many \
         are {}. Frames that came as a guest: at the client, at the server. Strays: at both.",
        settings.streams
    );
    if let Some(file) = &settings.json {
        let Settings { paths, streams, rounds, seconds, .. } = settings;
        let rows: Vec<Value> = rows.iter().map(|row| row.document(base)).collect();
        let document = json!({
            "machine": machine(), "cores": cores, "paths": paths, "rounds": rounds, "seconds": seconds, "streams": streams, "rows": rows,
        });
        write_json(file, &document)?;
    }
    Ok(())
}
