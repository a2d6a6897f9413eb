//! `kill -9` in the middle: nothing that was acknowledged is missing, the routing is the last one.

use crate::lifecycle::wait_ready;
use crate::support::{Project, Server, order, told};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_killed_server_has_everything_that_it_acknowledged() {
    let project = Project::trained(2000);
    let root = project.root();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut outcomes = 0;
    for round in 0..3 {
        let server = Arc::new(Server::start(&root));
        wait_ready(&server);
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
                std::thread::spawn(move || {
                    let (mut ids, mut known) = (Vec::new(), 0);
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let rows = [order(round * 1_000_000 + worker * 100_000 + n)];
                        let answer = std::panic::catch_unwind(|| server.predict(&rows));
                        let Ok(answer) = answer else { break };
                        let id = answer["predictions"][0]["id"].as_str().unwrap().to_owned();
                        let body = json!({ "outcomes": [{ "id": id, "value": n % 2 }] });
                        ids.push(id);
                        let Ok((200, taken)) = std::panic::catch_unwind(|| server.post("/v1/outcomes", &body)) else {
                            break;
                        };
                        known += taken["accepted"].as_u64().unwrap();
                    }
                    (ids, known)
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(400));
        server.kill_now();
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            let (ids, known) = worker.join().unwrap();
            acknowledged.extend(ids);
            outcomes += known;
        }
    }
    assert!(acknowledged.len() > 50, "{} requests are too few to say anything", acknowledged.len());
    let server = Server::start(&root);
    let traffic = server.ok("/v1/models/returned")["traffic"].clone();
    assert!(traffic["predictions"].as_u64().unwrap() >= acknowledged.len() as u64, "{traffic}");
    assert!(traffic["outcomes"].as_u64().unwrap() >= outcomes, "{traffic} of {outcomes}");
    for id in &acknowledged {
        assert_eq!(server.get(&format!("/v1/predictions/{id}")).0, 200, "{id}");
    }
    server.stop();
    assert_eq!(told(&root, &["replay", "--sample", "100000"])["different"], json!([]));
}

#[test]
fn a_killed_server_comes_back_with_its_last_routing() {
    let project = Project::trained(1500);
    let root = project.root();
    let server = Server::start(&root);
    wait_ready(&server);
    told(&root, &["train", "--learner", "linear"]);
    told(&root, &["release", "returned@2", "--now"]);
    let before = server.ok("/v1/models/returned/routing");
    server.kill();
    let server = Server::start(&root);
    let after = server.ok("/v1/models/returned/routing");
    assert_eq!(before, after);
    assert_eq!(server.predict(&[order(1)])["version"], "returned@2");
    server.stop();
}
