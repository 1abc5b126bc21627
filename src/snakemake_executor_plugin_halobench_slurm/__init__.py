"""A Snakemake executor plug-in that runs halobench's jobs on SLURM (``snakemake --executor halobench-slurm``).

The plug-in extends snakemake-executor-plugin-slurm, but follows submitted jobs in another way. Its options are named
``--halobench-slurm-NAME`` instead of ``--slurm-NAME``.
"""

try:
    from .executor import Executor, ExecutorSettings, common_settings
except ModuleNotFoundError:  # without the extra `slurm`; Snakemake imports this at each start
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor as Executor  # type: ignore[no-redef]
    from snakemake_interface_executor_plugins.settings import CommonSettings

    common_settings = CommonSettings(non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False)

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
