//! What library users and users of the control socket ask the control thread: about connections, and of the path manager.

use super::Control;
use crate::base::names::find;
use crate::base::{Instant, WorkerId};
use crate::cc::CongestionAlgorithm;
use crate::mptcp::{ConnectionDetails, SchedulerKind, SubflowDetails, SubflowId};
use crate::pm::{EndpointError, EndpointSpec, Flags, Limits, LocalEndpoint, SubflowRequest};
use crate::runtime::asks::{Ask, AskError, Reply};
use crate::runtime::ctl::counters;
use crate::runtime::ctl::events::PathEvent;
use crate::runtime::ctl::protocol::{Answer, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, CtlRequest, Refusal};
use crate::runtime::handle::Action;
use crate::runtime::info::{ConnectionStatus, MptcpInfo};
use crate::runtime::local_ports::Key;
use crate::runtime::paths::EndpointConfig;
use crate::stack::{Command, WorkerCounters};
use crate::wire::mptcp::{AddressId, Token};
use crate::wire::{Endpoint, FourTuple};
use crossbeam::channel::Sender;
use serde_json::{Value, json};
use std::mem::take;
use std::net::IpAddr;

impl Control {
    // ---- library users ----

    /// Asks a connection's worker what it is.
    pub(super) fn ask_status(
        &mut self,
        now: Instant,
        first: FourTuple,
        reply: Sender<Result<ConnectionStatus, AskError>>,
    ) {
        let Some(key) = self.key_of(first) else {
            // Whoever asked may have given up.
            let _ = reply.send(Err(AskError::NoConnection));
            return;
        };
        match self.asks.begin(now, Reply::Status(reply.clone()), vec![key], 1) {
            Some(ticket) => self.command(key.0, Command::Describe { connection: key.1, ticket }),
            None => {
                let _ = reply.send(Err(AskError::Busy));
            }
        }
    }

    /// Does what an application wants for its connection.
    pub(super) fn manage(&mut self, now: Instant, first: FourTuple, action: Action) -> Result<(), AskError> {
        let key = self.key_of(first).ok_or(AskError::NoConnection)?;
        Ok(self.act(now, key, action)?)
    }

    fn act(
        &mut self,
        now: Instant,
        (worker, id): Key,
        action: Action,
    ) -> Result<(), crate::pm::RequestError> {
        let manager = &mut self.manager;
        match action {
            Action::AddAddress(addr) => manager.add_address(now, worker, id, addr),
            Action::RemoveAddress(addr) => manager.remove_address(now, worker, id, addr),
            Action::AddSubflow(request) => manager.add_subflow(worker, id, &request),
            Action::RemoveSubflow(subflow) => manager.remove_subflow(worker, id, subflow),
            Action::SetBackup(subflow, backup) => manager.set_backup(worker, id, subflow, backup),
            Action::SetScheduler(scheduler) => {
                self.command(worker, Command::SetScheduler { connection: id, scheduler });
                Ok(())
            }
            Action::SetCongestion(congestion) => {
                self.command(worker, Command::SetCongestion { connection: id, congestion });
                Ok(())
            }
        }
    }

    fn key_of(&self, first: FourTuple) -> Option<Key> {
        self.connections.iter().find(|(_, known)| known.first == first).map(|(key, _)| *key)
    }

    fn key_of_token(&self, text: &str) -> Result<Key, Refusal> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let token = u32::from_str_radix(digits, 16).map(Token).map_err(|_| {
            Refusal::new(format!("'{text}' is no token: it has up to 8 hexadecimal digits (see connections)"))
        })?;
        let known = self.connections.iter().find(|(_, known)| known.token == Some(token));
        known.map(|(key, _)| *key).ok_or_else(|| {
            Refusal::new(format!("there is no connection with token {token} (see connections)"))
        })
    }

    // ---- the control socket ----

    /// Carries out a request. Its answer may have to wait for workers.
    pub(super) fn handle_ctl(&mut self, now: Instant, request: CtlRequest, reply: Sender<Answer>) {
        let answer = match request {
            CtlRequest::Connections { token, limit } => return self.list(now, token, limit, reply),
            CtlRequest::Counters {} => return self.count(now, Reply::Counters(reply.clone()), &reply),
            CtlRequest::Workers {} => return self.count(now, Reply::Workers(reply.clone()), &reply),
            CtlRequest::EndpointAdd { addr, port, dev, id, flags } => {
                self.add_endpoint(now, addr, port, dev, id, &flags)
            }
            CtlRequest::EndpointDelete { id, addr } => self.delete_endpoint(now, id, addr),
            CtlRequest::EndpointChange { id, addr, port, flags } => {
                self.change_endpoint(now, id, addr, port, &flags)
            }
            CtlRequest::EndpointShow { id } => self.show_endpoints(id),
            CtlRequest::EndpointFlush {} => {
                let gone = self.manager.flush_endpoints(now);
                gone.iter().for_each(|endpoint| self.close_join(endpoint));
                Ok(json!({ "deleted": gone.len() }))
            }
            CtlRequest::LimitsShow {} => Ok(self.limits_json()),
            CtlRequest::LimitsSet { subflows, add_addr_accepted } => {
                self.set_limits(now, subflows, add_addr_accepted)
            }
            CtlRequest::SubflowAdd { token, local, remote, port, backup } => {
                let request = SubflowRequest { local, remote, port, backup };
                self.act_on(now, &token, Action::AddSubflow(request))
            }
            CtlRequest::SubflowRemove { token, id } => {
                self.act_on(now, &token, Action::RemoveSubflow(SubflowId(id)))
            }
            CtlRequest::SubflowBackup { token, id, backup } => {
                self.act_on(now, &token, Action::SetBackup(SubflowId(id), backup))
            }
            CtlRequest::Connection { token, cc, sched } => self.change_connection(now, &token, cc, sched),
            // The socket's thread does the rest.
            CtlRequest::Monitor {} => Ok(json!({})),
        };
        let _ = reply.send(answer);
    }

    /// Changes how a connection is run: all that was asked for, or nothing.
    fn change_connection(
        &mut self,
        now: Instant,
        token: &str,
        congestion: Option<String>,
        scheduler: Option<String>,
    ) -> Answer {
        let congestion = congestion
            .map(|name| find(CongestionAlgorithm::ALL, &name, format_args!("congestion control '{name}'")));
        let scheduler =
            scheduler.map(|name| find(SchedulerKind::ALL, &name, format_args!("scheduler '{name}'")));
        let congestion = congestion.transpose().map_err(Refusal::new)?;
        let scheduler = scheduler.transpose().map_err(Refusal::new)?;
        let actions = [congestion.map(Action::SetCongestion), scheduler.map(Action::SetScheduler)];
        if actions.iter().all(Option::is_none) {
            return Err(Refusal::new("nothing to change: cc, sched, or both"));
        }
        for action in actions.into_iter().flatten() {
            self.act_on(now, token, action)?;
        }
        Ok(json!({}))
    }

    fn act_on(&mut self, now: Instant, token: &str, action: Action) -> Answer {
        let key = self.key_of_token(token)?;
        self.act(now, key, action).map_err(Refusal::new)?;
        Ok(json!({}))
    }

    fn add_endpoint(
        &mut self,
        now: Instant,
        addr: IpAddr,
        port: Option<u16>,
        dev: Option<String>,
        id: Option<u8>,
        flags: &[String],
    ) -> Answer {
        let flags = read_flags(flags)?;
        let config = EndpointConfig { addr: addr.to_canonical(), port, nic: dev, id, flags };
        let added = self.open_endpoint(now, &config).map_err(Refusal::new)?;
        Ok(self.endpoint_json(&added))
    }

    /// Adds an endpoint, and lets joins come to its port where it has one.
    pub(super) fn open_endpoint(
        &mut self,
        now: Instant,
        config: &EndpointConfig,
    ) -> Result<LocalEndpoint, String> {
        let mut spec: EndpointSpec = config.spec();
        spec.check().map_err(|error| error.to_string())?;
        if let Some(nic) = &config.nic {
            let port = self.network.port_named(nic).ok_or_else(|| {
                format!("{nic} is not an attached NIC; those are: {}", self.network.names().join(", "))
            })?;
            spec.nic = Some(port);
        }
        let join = spec.port.map(|port| Endpoint::new(spec.addr, port));
        if let Some(local) = join {
            self.ports.open_join(local).map_err(|error| error.to_string())?;
        }
        match self.manager.add_endpoint(now, &spec) {
            Ok(added) => {
                join.into_iter().for_each(|local| self.tell(|| PathEvent::ListenerCreated { local }));
                Ok(added)
            }
            Err(error) => {
                // Unless it is that of the endpoint that is in the way.
                if !matches!(error, EndpointError::Exists(_)) {
                    join.into_iter().for_each(|local| self.ports.close_join(local));
                }
                Err(error.to_string())
            }
        }
    }

    fn close_join(&mut self, endpoint: &LocalEndpoint) {
        if let Some(port) = endpoint.port {
            let local = Endpoint::new(endpoint.addr, port);
            self.ports.close_join(local);
            self.tell(|| PathEvent::ListenerClosed { local });
        }
    }

    fn delete_endpoint(&mut self, now: Instant, id: u8, addr: Option<IpAddr>) -> Answer {
        match (id, addr) {
            (0, Some(addr)) => {
                self.manager.delete_first_address(addr.to_canonical()).map_err(Refusal::new)?;
                Ok(json!({}))
            }
            (0, None) => {
                Err(Refusal::new("id 0 needs the address (that of first subflows): delete id 0 IFADDR"))
            }
            (_, Some(_)) => Err(Refusal::new("an address is given only with id 0")),
            (id, None) => {
                let gone = self.manager.delete_endpoint(now, AddressId(id)).map_err(Refusal::new)?;
                self.close_join(&gone);
                Ok(self.endpoint_json(&gone))
            }
        }
    }

    fn change_endpoint(
        &mut self,
        now: Instant,
        id: Option<u8>,
        addr: Option<IpAddr>,
        port: Option<u16>,
        changes: &[String],
    ) -> Answer {
        let mut wanted = Vec::new();
        for change in changes {
            let name = change.strip_prefix("no").filter(|name| CHANGEABLE.contains(name));
            let (name, value) = name.map_or((change.as_str(), true), |name| (name, false));
            if !CHANGEABLE.contains(&name) {
                return Err(Refusal::new(format!(
                    "'{change}' cannot be changed; there are: backup, nobackup, fullmesh, nofullmesh"
                )));
            }
            wanted.push((name, value));
        }
        if wanted.is_empty() {
            return Err(Refusal::new("a change is one of: backup, nobackup, fullmesh, nofullmesh"));
        }
        let id = match (id, addr.map(|addr| addr.to_canonical())) {
            (Some(id), _) => AddressId(id),
            (None, Some(addr)) => {
                let named = self.manager.endpoints().find(|it| it.addr == addr && it.port == port);
                named.ok_or_else(|| Refusal::new(EndpointError::UnknownAddress(addr)))?.id
            }
            (None, None) => return Err(Refusal::new("name the endpoint by its id or its address")),
        };
        let change = |flags: &mut Flags| {
            for (name, value) in wanted {
                flags.set(name, value);
            }
        };
        let changed = self.manager.change_endpoint(now, id, change).map_err(Refusal::new)?;
        Ok(self.endpoint_json(&changed))
    }

    fn show_endpoints(&self, id: Option<u8>) -> Answer {
        let wanted = |endpoint: &&LocalEndpoint| id.is_none_or(|id| endpoint.id == AddressId(id));
        let shown = self.manager.endpoints().filter(wanted).map(|endpoint| self.endpoint_json(endpoint));
        let shown: Vec<Value> = shown.collect();
        match id {
            Some(id) if shown.is_empty() => Err(Refusal::new(EndpointError::UnknownId(AddressId(id)))),
            Some(_) | None => Ok(Value::Array(shown)),
        }
    }

    fn endpoint_json(&self, endpoint: &LocalEndpoint) -> Value {
        let LocalEndpoint { id, addr, port, nic, flags, implicit, deleted: _ } = *endpoint;
        let nic = nic.or_else(|| self.manager.nic_of(addr));
        json!({
            "id": id.0,
            "addr": addr,
            "port": port,
            "dev": nic.map(|nic| self.network.name(nic)),
            "flags": flags.names().collect::<Vec<_>>(),
            "implicit": implicit,
            "usable": self.manager.is_usable(id),
        })
    }

    fn limits_json(&self) -> Value {
        let Limits { subflows, add_addr_accepted, connections } = self.manager.limits();
        json!({
            "add_addr_accepted": add_addr_accepted,
            "subflows": subflows,
            "connections": connections,
            "policy": self.manager.policy().to_string(),
        })
    }

    fn set_limits(&mut self, now: Instant, subflows: Option<usize>, accepted: Option<usize>) -> Answer {
        let mut limits = self.manager.limits();
        let within = |what: &str, value: usize, max: usize| match value {
            value if value <= max => Ok(value),
            value => Err(Refusal::new(format!("{what} is {value}; {max} is the most"))),
        };
        if let Some(value) = subflows {
            limits.subflows = within("subflows", value, Limits::SUBFLOWS_MAX)?;
        }
        if let Some(value) = accepted {
            limits.add_addr_accepted = within("add_addr_accepted", value, Limits::ADD_ADDR_ACCEPTED_MAX)?;
        }
        self.manager.set_limits(now, limits);
        Ok(self.limits_json())
    }

    // ---- questions to workers ----

    fn list(&mut self, now: Instant, token: Option<String>, limit: Option<usize>, reply: Sender<Answer>) {
        let limit = limit.unwrap_or(CONNECTIONS_DEFAULT).min(CONNECTIONS_MAX);
        let (keys, total) = match token.map(|token| self.key_of_token(&token)) {
            Some(Ok(key)) => (vec![key], 1),
            Some(Err(refusal)) => {
                let _ = reply.send(Err(refusal));
                return;
            }
            None => {
                let mut keys: Vec<Key> = self.connections.keys().copied().collect();
                keys.sort_unstable();
                let total = keys.len();
                keys.truncate(limit);
                (keys, total)
            }
        };
        if keys.is_empty() {
            let _ = reply.send(Ok(connections_json(Vec::new(), total)));
            return;
        }
        let parts = keys.len();
        let begun = self.asks.begin(now, Reply::Connections(reply.clone(), total), keys.clone(), parts);
        let Some(ticket) = begun else {
            let _ = reply.send(Err(Refusal::new(AskError::Busy)));
            return;
        };
        for (part, (worker, connection)) in keys.into_iter().enumerate() {
            self.command(worker, Command::Describe { connection, ticket: ticket + part as u64 });
        }
    }

    /// Asks each worker for its counts; `refuse` hears of it where there are too many questions.
    fn count(&mut self, now: Instant, reply: Reply, refuse: &Sender<Answer>) {
        let parts = self.workers.len();
        match self.asks.begin(now, reply, Vec::new(), parts) {
            Some(ticket) => {
                for part in 0..parts {
                    let ticket = ticket + part as u64;
                    self.command(WorkerId(part as u16), Command::Count { ticket });
                }
            }
            None => {
                let _ = refuse.send(Err(Refusal::new(AskError::Busy)));
            }
        }
    }

    /// Questions whose time is over are answered by what there is.
    pub(super) fn answer_late(&mut self, now: Instant) {
        while let Some(ask) = self.asks.poll_late(now) {
            self.answer(ask);
        }
    }

    /// A question is answered as well as it will be.
    pub(super) fn answer(&mut self, mut ask: Ask) {
        let (keys, mut connections) = (take(&mut ask.keys), take(&mut ask.connections));
        match &ask.reply {
            Reply::Status(reply) => {
                let status = connections.pop().map(|(key, details)| self.status(key, details));
                let gone = keys.iter().any(|key| !self.connections.contains_key(key));
                let otherwise = if gone { AskError::NoConnection } else { AskError::Late };
                let _ = reply.send(status.ok_or(otherwise));
            }
            Reply::Connections(reply, total) => {
                connections.sort_unstable_by_key(|(key, _)| *key);
                let list = connections.into_iter().map(|(key, details)| {
                    let status = self.status(key, details);
                    self.status_json(&status)
                });
                let list = list.collect();
                let _ = reply.send(Ok(connections_json(list, *total)));
            }
            Reply::Counters(reply) => {
                let _ = reply.send(Ok(self.counters_json(ask.all_counters())));
            }
            Reply::Workers(reply) => {
                let _ = reply.send(Ok(self.workers_json(&ask)));
            }
        }
    }

    fn status(&self, (worker, id): Key, details: ConnectionDetails) -> ConnectionStatus {
        ConnectionStatus::new(details, self.manager.view(worker, id), self.manager.limits())
    }

    fn workers_json(&self, ask: &Ask) -> Value {
        let workers = (0..self.workers.len() as u16).map(WorkerId);
        let one = |worker: WorkerId| {
            let connections = self.connections.keys().filter(|(owner, _)| *owner == worker).count();
            counters::worker_json(worker, connections, ask.counters.get(&worker).map(Box::as_ref))
        };
        workers.map(one).collect()
    }

    fn counters_json(&self, mut all: WorkerCounters) -> Value {
        let pm = self.manager.counters();
        let established = self.connections.values().filter(|known| known.token.is_some()).count();
        counters::add_pm(&mut all, &pm, established);
        counters::to_json(&all, &pm, &self.xdp.counters(), self.join_ports_refused)
    }

    fn status_json(&self, status: &ConnectionStatus) -> Value {
        let ConnectionStatus { token, initiator, first, fallback, congestion, scheduler, info, subflows } =
            status;
        json!({
            "token": token.map(|token| token.to_string()),
            "initiator": initiator,
            "local": first.local.to_string(),
            "remote": first.remote.to_string(),
            "fallback": fallback.map(|reason| reason.describe()),
            "cc": congestion.name(),
            "sched": scheduler.name(),
            "info": info_json(info),
            "subflows": subflows.iter().map(|it| self.subflow_json(it)).collect::<Vec<_>>(),
        })
    }

    fn subflow_json(&self, subflow: &SubflowDetails) -> Value {
        let SubflowDetails {
            id,
            tuple,
            port,
            local_id,
            remote_id,
            initial,
            by_peer,
            state,
            usable,
            backup_asked,
            backup_wanted,
            mss,
            tcp,
        } = subflow;
        json!({
            "id": id.0,
            "local": tuple.local.to_string(),
            "remote": tuple.remote.to_string(),
            "dev": self.network.name(*port),
            "locid": local_id.0,
            "remid": remote_id.0,
            "opened_by": if *initial { "MP_CAPABLE" } else { "MP_JOIN" },
            "by_peer": by_peer,
            "state": format!("{state:?}"),
            "usable": usable,
            "backup": *backup_asked || *backup_wanted,
            "backup_asked": backup_asked,
            "backup_wanted": backup_wanted,
            "bytes_sent": tcp.bytes_sent,
            "bytes_acked": tcp.bytes_acked,
            "bytes_received": tcp.bytes_received,
            "retransmits": tcp.counters.retransmits,
            "lost": tcp.counters.lost,
            "timeouts": tcp.counters.timeouts,
            "rtt_us": tcp.srtt.map(|time| time.as_micros()),
            "rttvar_us": tcp.rttvar.map(|time| time.as_micros()),
            "min_rtt_us": tcp.min_rtt.map(|time| time.as_micros()),
            "rto_us": tcp.rto.as_micros(),
            "cwnd": tcp.cwnd,
            // Before the first loss there is none.
            "ssthresh": (tcp.ssthresh < u64::from(u32::MAX)).then_some(tcp.ssthresh),
            "in_flight": tcp.in_flight,
            "peer_window": tcp.peer_window,
            "mss": mss.raw(),
        })
    }
}

/// Flags that can be changed, as with the kernel.
const CHANGEABLE: [&str; 2] = ["backup", "fullmesh"];

fn read_flags(names: &[String]) -> Result<Flags, Refusal> {
    let mut flags = Flags::NONE;
    for name in names {
        if !flags.set(name, true) {
            return Err(Refusal::new(format!("'{name}' is no flag; there are: {}", Flags::NAMES.join(", "))));
        }
    }
    Ok(flags)
}

fn connections_json(list: Vec<Value>, total: usize) -> Value {
    json!({ "total": total, "connections": list })
}

/// With the names of the kernel's `struct mptcp_info`.
fn info_json(info: &MptcpInfo) -> Value {
    let MptcpInfo {
        subflows,
        add_addr_signal,
        add_addr_accepted,
        subflows_max,
        add_addr_signal_max,
        add_addr_accepted_max,
        fallback,
        remote_key_received,
        token,
        write_seq,
        snd_una,
        rcv_nxt,
        local_addr_used,
        local_addr_max,
        csum_enabled,
        retransmits,
        bytes_retrans,
        bytes_sent,
        bytes_received,
        bytes_acked,
        subflows_total,
        endp_laminar_max,
        endp_fullmesh_max,
        last_data_sent_ms,
        last_data_recv_ms,
        last_ack_recv_ms,
    } = *info;
    json!({
        "subflows": subflows,
        "add_addr_signal": add_addr_signal,
        "add_addr_accepted": add_addr_accepted,
        "subflows_max": subflows_max,
        "add_addr_signal_max": add_addr_signal_max,
        "add_addr_accepted_max": add_addr_accepted_max,
        "flags": u32::from(fallback) | u32::from(remote_key_received) << 1,
        "token": token,
        "write_seq": write_seq,
        "snd_una": snd_una,
        "rcv_nxt": rcv_nxt,
        "local_addr_used": local_addr_used,
        "local_addr_max": local_addr_max,
        "csum_enabled": csum_enabled,
        "retransmits": retransmits,
        "bytes_retrans": bytes_retrans,
        "bytes_sent": bytes_sent,
        "bytes_received": bytes_received,
        "bytes_acked": bytes_acked,
        "subflows_total": subflows_total,
        "endp_laminar_max": endp_laminar_max,
        "endp_fullmesh_max": endp_fullmesh_max,
        "last_data_sent_ms": last_data_sent_ms,
        "last_data_recv_ms": last_data_recv_ms,
        "last_ack_recv_ms": last_ack_recv_ms,
    })
}
