//! `--static`: what of a folder is served, and what in place of a page that is not there.
#![cfg(unix)]

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;

use common::binary::Binary;
use common::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Names that must not be served, wherever they are.
const SECRET: &str = "the secret";

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// A folder `site` beside one that is nobody's business, with links of all kinds.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, outside) = (folder.path().join("site"), folder.path().join("outside"));
    for (place, text) in [
        ("index.html", "the page"),
        ("a.js", "a script"),
        ("sub/index.html", "below"),
        ("grüße.txt", "greetings"),
        (".well-known/acme/token", "a token"),
        (".well-known/.hidden", "well known, too"),
        (".env", SECRET),
        (".git/config", SECRET),
        ("sub/.htpasswd", SECRET),
        ("sub/.git/config", SECRET),
        ("sub/.well-known/x", SECRET),
    ] {
        write(&site.join(place), text);
    }
    write(&outside.join("index.html"), SECRET);
    write(&outside.join("secret.txt"), SECRET);
    for (target, link) in [
        ("a.js", "inside.js"),
        ("sub", "inside"),
        ("../outside/secret.txt", "link.txt"),
        ("../outside", "link"),
        ("link", "chain"),
        (".env", "env.txt"),
        (".git", "git"),
        ("loop", "loop"),
        ("nowhere", "broken"),
    ] {
        symlink(target, site.join(link)).expect("a link");
    }
    symlink(outside.join("secret.txt"), site.join("absolute.txt")).expect("a link");
    std::fs::create_dir(site.join("linked")).expect("a folder");
    symlink("../../outside/index.html", site.join("linked/index.html")).expect("a link");
    symlink("../../outside", site.join(".well-known/link")).expect("a link");
    folder
}

async fn serve(folder: &Path, more: &[&str]) -> Binary {
    let site = folder.join("site");
    Binary::start(&[&["--static", site.to_str().expect("UTF-8")], more].concat(), &[]).await
}

#[tokio::test]
async fn files_are_served_that_are_inside_and_not_hidden() {
    let folder = folder();
    let binary = serve(folder.path(), &[]).await;
    for (path, text) in [
        ("/", "the page"),
        ("/index.html", "the page"),
        ("/a.js", "a script"),
        ("/sub/", "below"),
        ("/gr%C3%BC%C3%9Fe.txt", "greetings"),
        ("/.well-known/acme/token", "a token"),
        ("/.well-known/.hidden", "well known, too"),
        ("/inside.js", "a script"),
        ("/inside/", "below"),
        ("/inside/index.html", "below"),
    ] {
        let answer = get(binary.server.address, path).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(text), "{path}: {answer}");
    }
    for path in [
        "/.env",
        "/%2eenv",
        "/%2Eenv",
        "/./.env",
        "/sub/../.env",
        "/.git/config",
        "/%2egit/config",
        "/sub/.htpasswd",
        "/sub/%2ehtpasswd",
        "/sub/.git/config",
        "/sub//.git/config",
        "/sub%2f.htpasswd",
        "/sub/.well-known/x",
        "/.well-known/../.env",
        "/.well-known/%2e%2e/.env",
        "/.well-known%2f..%2f.env",
        "/.well-known/link/secret.txt",
        "/env.txt",
        "/git/config",
        "/link.txt",
        "/link/secret.txt",
        "/link/",
        "/link",
        "/link%2fsecret.txt",
        "/chain/secret.txt",
        "/absolute.txt",
        "/linked/",
        "/linked/index.html",
        "/loop",
        "/loop/x",
        "/broken",
        "/../outside/secret.txt",
        "/%2e%2e/outside/secret.txt",
        "/..%2foutside%2fsecret.txt",
        "/sub/..%2f..%2foutside/secret.txt",
        "/%252e%252e/outside/secret.txt",
        "/a.js%00",
        "/%00",
        "/%ff",
        "/%c0%ae%c0%ae/outside/secret.txt",
        "/..%5coutside%5csecret.txt",
        "//sub",
        "//link/secret.txt",
        "/a.js/x",
    ] {
        let answer = get(binary.server.address, path).await;
        assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains(SECRET), "{path}: {answer}");
    }
}

/// As deployments do, which replace a link to the version that is served.
#[tokio::test]
async fn the_folder_itself_may_be_a_link_that_changes() {
    let folder = folder();
    let link = folder.path().join("current");
    symlink("site", &link).expect("a link");
    let binary = Binary::start(&["--static", link.to_str().expect("UTF-8")], &[]).await;
    assert!(get(binary.server.address, "/").await.ends_with("the page"));
    write(&folder.path().join("next/index.html"), "the next page");
    symlink("next", folder.path().join("new")).expect("a link");
    std::fs::rename(folder.path().join("new"), &link).expect("a folder");
    assert!(get(binary.server.address, "/").await.ends_with("the next page"));
}

/// The answer to a request as a browser makes it for a page, or another.
async fn ask(binary: &Binary, method: &str, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(binary.server.address).await.expect("a connection");
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("an open connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("UTF-8");
    answer
}

#[tokio::test]
async fn pages_that_are_not_there_are_the_fallback() {
    let folder = folder();
    let binary = serve(folder.path(), &["--static-fallback", "index.html"]).await;
    let page = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for path in
        ["/settings", "/settings/", "/users/ada?tab=1", "/.env", "/link/secret.txt", "/%2e%2e/x", "/broken"]
    {
        let answer = ask(&binary, "GET", path, page).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("the page"), "{path}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("content-type: text/html"), "{path}: {answer}");
    }
    assert!(ask(&binary, "HEAD", "/settings", page).await.starts_with("HTTP/1.1 200"));
    // Files that are there are served, and a script that is not there is an error, not a page.
    assert!(ask(&binary, "GET", "/sub/", page).await.ends_with("below"));
    for (method, path, accept) in
        [("GET", "/none.js", "*/*"), ("GET", "/none.png", "image/png,*/*;q=0.8"), ("POST", "/settings", page)]
    {
        let answer = ask(&binary, method, path, accept).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_an_error_at_start() {
    let folder = folder();
    let site = folder.path().join("site");
    let site = site.to_str().expect("UTF-8");
    let file = format!("{site}/a.js");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_manysocket-server"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .output()
            .expect("the binary");
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: it is not ready");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (arguments, reason) in [
        (&["--static", "/there/is/no/such"][..], "there is no such folder"),
        (&["--static", &file], "there is no such folder"),
        (&["--static", site, "--static-fallback", "none.html"], "there is no file none.html"),
        (&["--static", site, "--static-fallback", ".env"], "there is no file .env"),
        (&["--static", site, "--static-fallback", "../outside/index.html"], "there is no file"),
        (&["--static", site, "--static-fallback", "link.txt"], "there is no file"),
        (&["--static", site, "--static-fallback", "sub"], "there is no file"),
    ] {
        let error = run(arguments);
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
    // A superuser reads it all the same.
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).expect("a folder");
    for mode in [0o000, 0o100, 0o400] {
        std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("a folder");
        if std::fs::read_dir(&closed).is_err() {
            let error = run(&["--static", closed.to_str().expect("UTF-8")]);
            assert!(error.contains("cannot be read"), "{error}");
        }
    }
}
