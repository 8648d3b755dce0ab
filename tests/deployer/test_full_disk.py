import errno

from deployer.full_disk import full_disk


def test_a_full_disk_names_the_file_that_it_kept_from_being_written() -> None:
    full = full_disk(OSError(errno.ENOSPC, "No space left on device", "/data/out.yaml"))
    assert str(full) == "/data/out.yaml cannot be written: no space left; make some, or write elsewhere"


def test_another_fault_of_the_system_stays_what_it_is() -> None:
    assert full_disk(PermissionError(errno.EACCES, "Permission denied", "/data/out.yaml")) is None
