# One line for all organizations, three at a time.
parallel --jobs 3 --tag --line-buffer --joblog jobs.tsv \
  sigma-bulk update {}.csv --profile {} --yes --auto-resume -q ::: emea apac us
