"""libbackup: live point-in-time backups of QEMU guests.

    import libbackup

    with libbackup.Connection("qemu:///system") as conn:
        domain = conn.lookup_by_name("web")
        job = domain.backup_begin_options(backup_xml="<domainbackup/>")
        print(domain.backup_wait(job, 3600 * 1000000).state)

The names are those of C without prefix and noun; getters are properties; a call that fails raises libbackup.Error with a `code`. Every
call lets other threads run, and any object may be used from any thread.
"""
from ._base import Error, Parameters
from ._api import *
from ._api import __all__ as _names

__version__ = version_string()
__all__ = [*_names, 'Error', 'Parameters', '__version__']
