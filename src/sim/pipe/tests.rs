use super::*;

fn pipe(config: PipeConfig) -> Pipe<u32> {
    Pipe::new(config, Prng::new(3))
}

/// Offers all packets at once, sends them back to back, and gives each one's fate.
fn send_all(pipe: &mut Pipe<u32>, packets: u32, len: usize) -> (Instant, Vec<(u32, Fate)>) {
    let mut now = Instant::ZERO;
    let mut fates = Vec::new();
    for packet in 0..packets {
        assert!(pipe.offer(packet, len).is_ok());
        while let Some(started) = pipe.start(now) {
            fates.push((started.item, started.fate));
            now = started.leaves;
            pipe.line_free();
        }
    }
    (now, fates)
}

#[test]
fn the_rate_is_exact_over_many_packets() {
    // 3 bits a nanosecond and a bit: no packet takes a whole number of nanoseconds.
    let mut pipe = pipe(PipeConfig { rate_bps: 3_000_000_007, ..Default::default() });
    let (end, fates) = send_all(&mut pipe, 10_000, 1514);
    let exact = 10_000u128 * 1514 * 8 * 1_000_000_000 / 3_000_000_007;
    assert_eq!(u128::from(end.as_nanos()), exact);
    assert_eq!(fates.len(), 10_000);
    assert_eq!(fates.last().map(|(_, fate)| fate[0].at), Some(end + Duration::from_millis(5)));
}

#[test]
fn one_packet_is_on_the_line_at_a_time() {
    let mut pipe = pipe(PipeConfig::default());
    assert!(pipe.offer(1, 1000).is_ok() && pipe.offer(2, 1000).is_ok());
    let first = pipe.start(Instant::ZERO).expect("the line is free");
    assert_eq!((first.item, first.leaves), (1, Instant::from_nanos(80_000)));
    assert!(pipe.start(Instant::from_nanos(10)).is_none());
    pipe.line_free();
    assert_eq!(pipe.start(first.leaves).map(|second| second.item), Some(2));
    pipe.line_free();
    assert!(pipe.is_idle());
}

#[test]
fn a_full_queue_drops_the_newest_by_packets_or_by_bytes() {
    for (queue, waiting) in
        [(QueueLimit::Packets(3), 3), (QueueLimit::Bytes(2_500), 2), (QueueLimit::Packets(0), 0)]
    {
        let mut pipe = pipe(PipeConfig { queue, ..Default::default() });
        assert!(pipe.offer(0, 1000).is_ok());
        assert!(pipe.start(Instant::ZERO).is_some());
        let taken = (1..=10).filter(|packet| pipe.offer(*packet, 1000).is_ok()).count();
        assert_eq!(taken, waiting, "{queue:?}");
        assert_eq!(pipe.counters().queue_drops as usize, 10 - waiting);
    }
}

#[test]
fn losses_come_at_about_their_probability() {
    let mut pipe = pipe(PipeConfig { loss: 0.05, ..Default::default() });
    let (_, fates) = send_all(&mut pipe, 20_000, 100);
    let lost = fates.iter().filter(|(_, fate)| fate.is_empty()).count();
    assert!((800..1200).contains(&lost), "{lost} of 20000 at 5 %");
    assert_eq!(pipe.counters().lost as usize, lost);
}

#[test]
fn late_packets_arrive_behind_later_ones() {
    let mut pipe = pipe(PipeConfig { reorder: 0.1, rate_bps: 1_000_000_000, ..Default::default() });
    let (_, fates) = send_all(&mut pipe, 1_000, 1000);
    let arrivals: Vec<Instant> = fates.iter().map(|(_, fate)| fate[0].at).collect();
    assert!(arrivals.windows(2).any(|pair| pair[1] < pair[0]));
    assert!((50..150).contains(&pipe.counters().reordered));
}

#[test]
fn duplicates_and_changed_bytes() {
    let mut pipe = pipe(PipeConfig { duplicate: 0.1, corrupt: 0.1, ..Default::default() });
    let (_, fates) = send_all(&mut pipe, 2_000, 60);
    let twice = fates.iter().filter(|(_, fate)| fate.len() == 2).count();
    let damages: Vec<Damage> =
        fates.iter().flat_map(|(_, fate)| fate.iter().filter_map(|a| a.damage)).collect();
    assert!((150..250).contains(&twice), "{twice}");
    assert!((150..250).contains(&damages.len()), "{}", damages.len());
    assert!(damages.iter().all(|damage| (14..60).contains(&damage.at) && damage.mask != 0));
    let c = pipe.counters();
    assert_eq!((c.duplicated as usize, c.corrupted as usize), (twice, damages.len()));
}

#[test]
fn nothing_passes_while_down() {
    let ms = Instant::from_millis;
    let down = vec![DownTime { from: ms(1), until: Some(ms(2)) }, DownTime { from: ms(3), until: None }];
    let mut pipe = pipe(PipeConfig { down, rate_bps: 8_000_000, ..Default::default() });
    // One byte a microsecond: a packet every 100 µs.
    let (_, fates) = send_all(&mut pipe, 50, 100);
    let passed: Vec<u32> = fates.iter().filter(|(_, fate)| !fate.is_empty()).map(|(item, _)| *item).collect();
    let expected: Vec<u32> = (0..9).chain(19..29).collect();
    assert_eq!(passed, expected);
    assert_eq!(pipe.counters().lost_down as usize, 50 - expected.len());
}

#[test]
fn a_seed_repeats() {
    let config = PipeConfig { loss: 0.1, reorder: 0.1, duplicate: 0.1, corrupt: 0.1, ..Default::default() };
    let run = |seed| send_all(&mut Pipe::new(config.clone(), Prng::new(seed)), 500, 500).1;
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn nothing_is_lost_before_losses_begin() {
    let begin = Instant::from_millis(10);
    let config = PipeConfig { loss: 1.0, loss_from: begin, ..PipeConfig::default() };
    let mut pipe = Pipe::new(config, Prng::new(1));
    for (at, arrives) in [(Instant::from_millis(1), true), (begin, false)] {
        pipe.offer((), 1_000).expect("room");
        assert_eq!(!pipe.start(at).expect("the line is free").fate.is_empty(), arrives);
        pipe.line_free();
    }
}
