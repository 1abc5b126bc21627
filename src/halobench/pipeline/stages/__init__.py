"""Provide the stages that are commands, with a file per stage.

Each file defines ``run``, whose parameters are the options of ``halobench stage NAME``, and ``STAGE``, a literal that
is read without importing the file. ``STAGE`` determines the stage's rule, its jobs and what they need, its files, its
place in estimates, and when its results are outdated; `halobench.storage.layout.Stage` describes the keys.

The key ``code`` lists the modules of the package, such as ``calibration.calibrate_cell``, on which the stage's numbers
depend. An edit to the code of these modules, or of modules that they import and that can change numbers, reruns the
stage. The file's own imports don't count, so its computations belong in the listed modules.
"""

from halobench.core.plugins.kinds import Kind

KIND = Kind("stages", __file__, "run", ("STAGE",))
