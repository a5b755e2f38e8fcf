use std::fs;

use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn refused(out: &Path, inputs: &[PathBuf]) -> String {
    RunFolder::create(out, inputs).map_or_else(|e| e.to_string(), |f| panic!("made {f:?}"))
}

#[test]
fn f77_names_are_allow_listed() {
    for good in ["a", "run-1", "Mein Lauf", "größe_2.5", "console", "com10", "名前"] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    let long = "x".repeat(65);
    for bad in [
        "", ".", "..", "../x", "a/b", "a\\b", "nul", "NUL.txt", "com1", "Lpt9.log", "a\0", "-rf",
        " a", "a ", "a.", ".hidden", "a:b", "a*", "a\n", "aux .x", &long,
    ] {
        let text = check_name(bad).map_or_else(|error| error.to_string(), |()| String::new());
        assert!(text.contains("is no name for a run"), "{bad:?}");
    }
}

#[test]
fn a_new_run_gets_a_folder_and_a_lock() -> Outcome {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("runs/new/one");
    let folder = RunFolder::create(&out, &[])?;
    assert!(folder.checkpoints().is_dir());
    assert!(refused(&out, &[]).contains("in use by process"));
    drop(folder);
    // Nothing was written yet, so the folder may be taken again.
    let folder = RunFolder::create(&out, &[])?;
    fs::write(folder.run_toml(), "version = 1")?;
    drop(folder);
    assert!(refused(&out, &[]).contains("go on with it by --resume"));
    let folder = RunFolder::resume(&out, &[])?;
    assert_eq!(folder.recovered_from(), None);
    let second = RunFolder::create_next(&dir.path().join("runs/new"), "one", &[])?;
    assert!(second.path().ends_with("one-2"), "{second:?}");
    Ok(())
}

#[test]
fn f43_a_second_start_removes_nothing_of_the_first() -> Outcome {
    let dir = tempfile::tempdir()?;
    let runs = dir.path().join("runs");
    let first = RunFolder::create_next(&runs, "one", &[])?;
    // The first has not written its run.toml yet.
    let second = RunFolder::create_next(&runs, "one", &[])?;
    assert!(refused(first.path(), &[]).contains("in use by process"));
    assert!(first.checkpoints().is_dir() && second.checkpoints().is_dir());
    assert!(second.path().ends_with("one-2"), "{second:?}");
    drop(first);
    fs::write(runs.join("one/checkpoints/notes.txt"), "x")?;
    assert!(refused(&runs.join("one"), &[]).contains("it contains checkpoints"));
    Ok(())
}

#[test]
fn f42_foreign_folders_are_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("photos");
    fs::create_dir(&out)?;
    fs::write(out.join("holiday.jpg"), "x")?;
    let text = refused(&out, &[]);
    assert!(text.contains("it contains holiday.jpg"), "{text}");
    assert_eq!(RealStorage.list(&out)?, ["holiday.jpg"], "nothing was added");
    assert!(refused(&out.join("holiday.jpg"), &[]).contains("part of the path is a file"));
    let error = RunFolder::resume(&out, &[]).unwrap_err();
    assert!(error.to_string().contains("holds no run to resume"), "{error}");
    assert!(RunFolder::resume(&dir.path().join("none"), &[]).is_err());
    let text = refused(&dir.path().join("no/../way"), &[]);
    assert!(text.contains("'..' is not allowed"), "{text}");
    Ok(())
}

#[test]
fn f42_output_and_input_never_overlap() -> Outcome {
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    fs::create_dir(&model)?;
    fs::write(model.join("config.json"), "{}")?;
    let inputs = [model.clone()];
    for out in [model.clone(), model.join("run"), model.join("deep/run"), dir.path().into()] {
        let text = refused(&out, &inputs);
        assert!(text.contains("overlap"), "{}: {text}", out.display());
    }
    let data = [dir.path().join("runs/one/data.json")];
    fs::create_dir_all(dir.path().join("runs/one"))?;
    fs::write(&data[0], "[]")?;
    assert!(refused(&dir.path().join("runs/one"), &data).contains("overlap"));
    assert_eq!(RealStorage.list(&model)?, ["config.json"], "nothing was added");
    RunFolder::create(&dir.path().join("model-run"), &inputs)?;
    Ok(())
}

#[test]
#[cfg(unix)]
fn f42_links_are_followed_before_anything_is_judged() -> Outcome {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    fs::create_dir(&model)?;
    symlink(&model, dir.path().join("link"))?;
    symlink(dir.path().join("nowhere"), dir.path().join("broken"))?;
    let inputs = [model];
    assert!(refused(&dir.path().join("link"), &inputs).contains("overlap"));
    assert!(refused(&dir.path().join("link/run"), &inputs).contains("overlap"));
    assert!(refused(&dir.path().join("broken"), &[]).contains("leads nowhere"));
    fs::create_dir(dir.path().join("elsewhere"))?;
    symlink(dir.path().join("elsewhere"), dir.path().join("out"))?;
    fs::create_dir_all(dir.path().join("big/empty"))?;
    fs::create_dir(dir.path().join("linked"))?;
    symlink(dir.path().join("big/empty"), dir.path().join("linked/checkpoints"))?;
    // It could not go on later: better now than after hours.
    assert!(refused(&dir.path().join("linked"), &[]).contains("it contains checkpoints"));
    let folder = RunFolder::create(&dir.path().join("out"), &inputs)?;
    assert!(folder.path().ends_with("elsewhere"), "{folder:?}");
    Ok(())
}
