# Just enough of Homebrew's words to load the formula and look at what it says.
class Formula
  SAID = {}.freeze

  class << self
    attr_reader :said

    def inherited(child)
      super
      child.instance_variable_set(:@said, {})
    end

    %i[desc homepage url sha256 license head depends_on].each do |word|
      define_method(word) { |*args, **options| @said[word] = [*args, options] }
    end

    def service(&block)
      recorder = Class.new do
        attr_reader :said

        def method_missing(word, *args, **options)
          (@said ||= {})[word] = [*args, options]
        end

        def respond_to_missing?(*)
          true
        end
      end.new
      recorder.instance_eval(&block)
      @said[:service] = recorder.said
    end

    def test
      @said[:test] = true
    end
  end
end

require_relative "../../packaging/homebrew/mcp-gateway"

said = McpGateway.said
lacking = %i[desc homepage url sha256 license depends_on service test] - said.keys
abort "the formula lacks #{lacking}" unless lacking.empty?
abort "desc is too long" if said[:desc].first.length > 80
abort "rust is needed to build" unless said[:depends_on].last == { "rust" => :build }
label = said[:service][:name].last[:macos]
abort "the service is named #{label}" unless label == "homebrew.mxcl.mcp-gateway"
abort "the service block runs something" if said[:service].key?(:run)
abort "there is no install" unless McpGateway.method_defined?(:install)
