"""What the command's exit code says; the same for every command."""

UNUSABLE = 1  # a setting, an input or a service cannot be used, or something needs a person
MISUSED = 2  # the command line is wrong; click's own
SOME_FAILED = 3  # the work ended, and some of it failed or found nothing at all
INTERRUPTED = 130

EXPLAINED = """\
Exit codes:
  0    done
  1    a setting, an input or a service cannot be used, or doctor found
       something that needs a person
  2    the command line is wrong
  3    it ended, but some units failed, some files were not copied, canaries
       failed, or no imagery was found at all
  130  interrupted; the same command goes on where it was
"""
