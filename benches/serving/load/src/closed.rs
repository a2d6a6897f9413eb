//! Closed loop: as many requests under way as there are connections.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::report::{Record, Report};
use crate::requests::Requests;

pub struct Plan {
    pub connections: usize,
    pub seconds: Duration,
    pub warmup: Duration,
}

pub async fn run(address: SocketAddr, requests: Rc<Requests>, plan: Plan) -> Result<Report> {
    ensure!((1..=4096).contains(&plan.connections), "--connections {}: give 1 to 4096", plan.connections);
    let from = Instant::now() + plan.warmup;
    let until = from + plan.seconds;
    let record = Rc::new(RefCell::new(Record::new(until)));
    let mut senders = JoinSet::new();
    for first in 0..plan.connections {
        let (requests, record) = (requests.clone(), record.clone());
        senders.spawn_local(async move {
            let (mut connection, mut request) = (Connection::new(address), Vec::new());
            for turn in (first..).step_by(plan.connections) {
                requests.turn(turn, &mut request);
                let sent = Instant::now();
                if sent >= until {
                    return;
                }
                let asked = connection.ask(&request).await;
                let now = Instant::now();
                let failed = asked.is_err();
                if now >= from && now < until {
                    record.borrow_mut().add(asked, sent, now);
                }
                // A server that refuses connections would otherwise be asked in a busy loop.
                if failed {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }
    while senders.join_next().await.is_some() {}
    let record = record.borrow();
    Ok(Report { connections: plan.connections, ..record.report(plan.seconds) })
}
