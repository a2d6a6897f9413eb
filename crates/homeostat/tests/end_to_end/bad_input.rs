//! What a person or a caller gets wrong: each ends in a clear error or a declared repair, counted; nothing panics.

use crate::lifecycle::wait_ready;
use crate::support::{Project, Server, homeostat, order, refused, told};
use serde_json::json;

#[test]
fn broken_files_are_named_with_place_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
    let init = |data: &str, target: &str, status| {
        refused(folder.path(), &["init", "p", "--data", data, "--target", target], status)
    };
    write("ragged.csv", "a,b,y\n1,2,0\n1,2\n3,4,1\n");
    let said = init("ragged.csv", "y", 3);
    assert!(said.contains("ragged.csv") && said.contains("line 3"), "{said}");
    write("fine.csv", "a,b,yield\n1,2,0\n3,4,1\n");
    let said = init("fine.csv", "yeild", 3);
    assert!(said.contains("did you mean \"yield\"?"), "{said}");
    write("broken.parquet", "PAR1 this is not one");
    assert!(init("broken.parquet", "y", 3).contains("as Parquet"));
    assert!(init("missing.csv", "y", 3).contains("no such file"));
    write("empty.csv", "a,b,y\n");
    assert!(init("empty.csv", "y", 3).contains("no rows"));
    write("one.csv", "a,y\n1,1\n2,1\n3,1\n");
    let said = refused(folder.path(), &["init", "p", "--data", "one.csv", "--target", "y", "--task", "binary"], 3);
    assert!(said.contains("needs two"), "{said}");
    assert!(!folder.path().join("p").join("homeostat.toml").exists(), "a refused init leaves no project");
}

#[test]
fn a_parquet_file_without_the_target_is_refused_by_name() {
    let project = Project::trained(1000);
    let root = project.root();
    told(&root, &["predict", "returned@1", "--data", "data/orders.csv", "--out", "scored.parquet"]);
    let said = refused(&root, &["init", "../q", "--data", "scored.parquet", "--target", "returned"], 3);
    assert!(said.contains("has no such column"), "{said}");
    let said = refused(&root, &["evaluate", "returned@1", "--data", "scored.parquet"], 3);
    assert!(said.contains("is missing"), "{said}");
}

#[test]
fn wrong_words_are_wrong_use() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(folder.path(), &["trian"], 2).contains("train"));
    refused(folder.path(), &["train", "--laerner", "trees"], 2);
    assert!(refused(folder.path(), &["train"], 3).contains("homeostat.toml"));
    let output = homeostat(folder.path(), &["train", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["error"].is_string());
}

#[test]
fn an_unknown_key_is_an_error_with_a_suggestion() {
    let project = Project::orders(500);
    let root = project.root();
    project.set("server", "prot = 1");
    let said = refused(&root, &["check"], 3);
    assert!(said.contains("homeostat.toml, line") && said.contains("did you mean \"port\"?"), "{said}");
}

#[test]
fn a_request_that_breaks_something_is_told_what() {
    let project = Project::trained(2000);
    project.set("server", "body_bytes_max = 100000");
    let contract = project.root().join("contracts/returned.toml");
    let server = Server::start(&project.root());
    wait_ready(&server);
    assert!(contract.exists());
    let path = "/v1/models/returned/predict";
    let row = |change: &[(&str, serde_json::Value)]| {
        let mut row = order(1);
        change.iter().for_each(|(name, value)| row[*name] = value.clone());
        json!({ "rows": [order(0), row] })
    };
    let refusal = |body: &serde_json::Value, status: u16, words: &[&str]| {
        let (code, answer) = server.post(path, body);
        assert_eq!(code, status, "{body} gave {answer}");
        let error = answer["error"].as_str().unwrap();
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in {error}"));
        answer
    };
    let wrong = refusal(&row(&[("price", json!("dear"))]), 422, &["price", "dear"]);
    assert_eq!(wrong["problems"][0]["row"], 1);
    refusal(&row(&[("order_id", json!(null))]), 422, &["order_id"]);
    refusal(&row(&[("pirce", json!(1.0))]), 422, &["pirce", "price"]);
    // Outside the inferred range: clipped and counted, as `init` declares.
    assert_eq!(server.post(path, &row(&[("price", json!(1e9))])).0, 200);
    let metrics = server.get("/metrics").1.as_str().unwrap().to_owned();
    assert!(metrics.contains("column=\"price\",kind=\"range\",action=\"clipped\"} 1"), "{metrics}");
    refusal(&json!({ "row": [] }), 400, &["row", "did you mean \"rows\"?"]);
    refusal(&json!({ "rows": [], "options": { "deadline_ms": -1 } }), 400, &["deadline_ms"]);
    assert_eq!(server.post(path, &json!({ "rows": [] })).1["predictions"], json!([]));
    // A category that nobody saw has a bucket of its own: no error.
    let unseen = server.post(path, &row(&[("shop", json!("moon"))]));
    assert_eq!(unseen.0, 200, "{}", unseen.1);
    // A missing value where nulls are allowed is learned from, too.
    assert_eq!(server.post(path, &row(&[("price", json!(null))])).0, 200);

    let (status, answer) = server.raw(path, b"{\"rows\": [", &[]);
    assert_eq!(status, 400, "{answer}");
    let before = server.peak_memory_bytes();
    let (status, answer) = server.raw(path, &vec![b' '; 100_000_000], &[]);
    assert_eq!(status, 413, "{answer}");
    let grown = server.peak_memory_bytes() - before;
    assert!(grown < 20_000_000, "100 MB that were refused took {grown} bytes");
    assert!(answer["error"].as_str().unwrap().contains("body_bytes_max"));
    assert_eq!(server.post("/v1/models/retruned/predict", &json!({ "rows": [] })).0, 404);
    assert_eq!(server.get("/v1/nothing").0, 404);
    assert_eq!(server.get(path).0, 405);
    let (status, answer) = server.post("/v1/outcomes", &json!({ "outcomes": [{ "key": "new-0", "value": "maybe" }] }));
    assert_eq!(status, 422, "{answer}");
    assert_eq!(server.post("/v1/clock", &json!({ "now": "2024-01-01" })).0, 409);

    let refused = server.ok("/v1/models/returned")["traffic"]["refused"].clone();
    assert_eq!(refused, json!({ "contract": 3, "malformed": 3, "too_large": 1 }));
    assert_eq!(server.ok("/v1/models/returned")["traffic"]["predictions"], 6);
    server.stop();
}

#[test]
fn a_declared_refusal_is_kept() {
    let project = Project::orders(2000);
    let root = project.root();
    let path = root.join("contracts/returned.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("repair = \"clip\"", "repair = \"reject\"")).unwrap();
    told(&root, &["train"]);
    let server = Server::start(&root);
    wait_ready(&server);
    let mut row = order(0);
    row["price"] = json!(1e9);
    let (status, answer) = server.post("/v1/models/returned/predict", &json!({ "rows": [row] }));
    assert_eq!(status, 422, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("price"), "{answer}");
    server.stop();
}

#[test]
fn a_port_in_use_and_a_second_server_are_refused() {
    let project = Project::trained(1000);
    let root = project.root();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refused(&root, &["serve", "--port", &port], 3);
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
    let server = Server::start(&root);
    let said = refused(&root, &["serve", "--port", "0"], 3);
    assert!(said.contains("another server"), "{said}");
    server.stop();
}

/// A file system of two megabytes, where this machine lets us make one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Option<SmallDisk> {
        std::fs::create_dir_all(&path).ok()?;
        let mut mount = std::process::Command::new("mount");
        let status = mount
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing() {
    let project = Project::trained(1000);
    let root = project.root();
    let Some(_disk) = SmallDisk::mount(root.join("small")) else {
        println!("skipped: full disk (this user may not mount a tmpfs)");
        return;
    };
    project.set("storage", "stream = \"file:small/log\"");
    let server = Server::start(&root);
    wait_ready(&server);
    let mut acknowledged = Vec::new();
    let mut full = None;
    for batch in 0..200 {
        let rows: Vec<_> = (0..100).map(|row| order(batch * 100 + row)).collect();
        let (status, answer) = server.post("/v1/models/returned/predict", &json!({ "rows": rows }));
        if status != 200 {
            full = Some((status, answer));
            break;
        }
        acknowledged
            .extend(answer["predictions"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()));
    }
    let (status, answer) = full.expect("two megabytes are soon full");
    assert_eq!(status, 503, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("disk"), "{answer}");
    assert!(server.ok("/v1/models/returned")["traffic"]["refused"]["disk_full"].as_u64().unwrap() >= 1);
    for id in [&acknowledged[0], acknowledged.last().unwrap()] {
        assert_eq!(server.get(&format!("/v1/predictions/{id}")).0, 200);
    }
    server.kill();
    let replayed = told(&root, &["replay", "--sample", &acknowledged.len().to_string()]);
    assert_eq!(replayed["replayed"], acknowledged.len());
    assert_eq!(replayed["different"], json!([]));
}
